#!/bin/sh
# Becomes nginx on the inherited socket. Arguments: the template of the configuration, a directory to work in.
# nginx takes sockets from the variable that it uses for its own upgrades: descriptors, each followed by a semicolon.
set -eu
configuration=$2/nginx.$SERVER_STARTER_GENERATION.conf
sed -e "s#@GENERATION@#$SERVER_STARTER_GENERATION#; s#@ADDRESS@#${SERVER_STARTER_PORT%=*}#; s#@DIR@#$2#" "$1" >"$configuration"
NGINX="${SERVER_STARTER_PORT##*=};" exec nginx -p "$2" -e stderr -c "$configuration"
