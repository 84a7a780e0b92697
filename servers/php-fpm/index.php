<?php
if ($_SERVER['REQUEST_URI'] === '/slow') {
    usleep(300000);
}
header('Content-Type: text/plain');
echo 'hello from generation ', getenv('SERVER_STARTER_GENERATION'), ', process ', getmypid(), "\n";
