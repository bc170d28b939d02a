// Echo as Go's users write it: a goroutine for each connection.
//
//	echo ADDRESS [CERTIFICATE KEY]
package main

import (
	"crypto/tls"
	"log"
	"net"
	"os"
	"strings"
)

func echo(one net.Conn) {
	defer one.Close()
	bytes := make([]byte, 65536)
	for {
		n, err := one.Read(bytes)
		if n > 0 {
			if _, err := one.Write(bytes[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func datagrams(where string) {
	address, err := net.ResolveUDPAddr("udp", where)
	if err != nil {
		log.Fatal(err)
	}
	one, err := net.ListenUDP("udp", address)
	if err != nil {
		log.Fatal(err)
	}
	bytes := make([]byte, 65536)
	for {
		n, peer, err := one.ReadFromUDPAddrPort(bytes)
		if err != nil {
			log.Fatal(err)
		}
		one.WriteToUDPAddrPort(bytes[:n], peer)
	}
}

func main() {
	kind, where, _ := strings.Cut(os.Args[1], ":")
	if kind != "unix" {
		where = "127.0.0.1:" + where
	}
	if kind == "udp" {
		datagrams(where)
	}
	listening, err := net.Listen(kind, where)
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 3 {
		pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
		if err != nil {
			log.Fatal(err)
		}
		listening = tls.NewListener(listening, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	for {
		one, err := listening.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go echo(one)
	}
}
