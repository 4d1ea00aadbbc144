// Command pause holds a pod's namespaces open: it waits for a signal to end. It is static, so that its image
// needs no other file.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ending := make(chan os.Signal, 1)
	signal.Notify(ending, syscall.SIGINT, syscall.SIGTERM)
	<-ending
}
