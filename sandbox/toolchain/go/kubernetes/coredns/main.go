// Command coredns is CoreDNS with only the plugins that the sandbox's Corefile names. The whole one pulls in the
// libraries of three clouds and takes several times as long to build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// In the order of CoreDNS' own list.
	dnsserver.Directives = []string{"bind", "errors", "template", "hosts", "kubernetes"}
	coremain.Run()
}
