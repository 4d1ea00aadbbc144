// Command etcd is the etcd server, built from its module by name: the server module's own
// main cannot be installed by version because its go.mod carries relative replaces.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
