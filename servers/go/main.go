// Go's own HTTP server on inherited sockets.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func inherited() ([]net.Listener, error) {
	var listeners []net.Listener
	for _, entry := range strings.Split(os.Getenv("SERVER_STARTER_PORT"), ";") {
		fd, err := strconv.Atoi(entry[strings.LastIndexByte(entry, '=')+1:])
		if err != nil {
			return nil, fmt.Errorf("SERVER_STARTER_PORT: %w", err)
		}
		file := os.NewFile(uintptr(fd), entry)
		listener, err := net.FileListener(file)
		if err != nil {
			return nil, err
		}
		file.Close()
		// The path belongs to the superdaemon.
		if unix, ok := listener.(*net.UnixListener); ok {
			unix.SetUnlinkOnClose(false)
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

func main() {
	generation := os.Getenv("SERVER_STARTER_GENERATION")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(300 * time.Millisecond)
		}
		fmt.Fprintf(w, "hello from generation %s, process %d\n", generation, os.Getpid())
	})

	listeners, err := inherited()
	if err != nil {
		log.Fatal(err)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	server := &http.Server{}
	for _, listener := range listeners {
		go server.Serve(listener)
	}
	<-told
	limit, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server.Shutdown(limit)
}
