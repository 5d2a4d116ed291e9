package main

import (
	"bytes"
	_ "embed" // the file's template
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"anyedge/internal/world"
)

//go:embed init.yaml.tmpl
var initTemplate string

// selfSigned is the answer that wants a development certificate.
const selfSigned = "self-signed"

// initAnswers are what init must know.
type initAnswers struct {
	geo, node        string
	vips             []string // ADDRESS or ADDRESS/LENGTH
	neighbors        []string // addresses
	neighborASN, asn uint32
	host, backend    string
	cert, key        string // paths; both "": self-signed, once finished
	routerID         string
}

// A question is one of six.
type question struct {
	text, otherwise string
	flags           string // that answer it
	answered        bool
	take            func(words []string) error
}

// open returns the questions that are not answered.
func (w *initAnswers) open() []question {
	all := []question{
		{"Name of this geo, like fra", "", "--geo", w.geo != "", w.takeGeo},
		{"Name of this machine", "", "--node", w.node != "", w.takeNode},
		{"Anycast address, like 203.0.113.10/24; two, if IPv4 and IPv6", "", "--vip", len(w.vips) > 0, w.takeVIPs},
		{
			"Router's address, its AS and ours, like 192.0.2.1 65001 65010", "", "--neighbor, --neighbor-asn and --asn",
			len(w.neighbors) > 0 && w.neighborASN > 0 && w.asn > 0, w.takeNeighbor,
		},
		{"Host name and the app behind it, like www.example.net http://127.0.0.1:3000", "", "--host and --backend", w.host != "" && w.backend != "", w.takeService},
		{"Certificate and key, two files", selfSigned, "--cert and --key, or --cert " + selfSigned, w.cert == selfSigned || w.cert != "" && w.key != "", w.takeCertificate},
	}
	var open []question
	for _, q := range all {
		if !q.answered {
			open = append(open, q)
		}
	}
	if w.node == "" && len(open) > 0 {
		for i := range open {
			if open[i].flags == "--node" {
				open[i].otherwise = hostName()
			}
		}
	}
	return open
}

// hostName returns this machine's name when it can be a node's.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if world.CheckName(name) != nil {
		return ""
	}
	return name
}

func takeName(to *string, words []string) error {
	if len(words) != 1 {
		return errors.New("want one word")
	}
	if err := world.CheckName(words[0]); err != nil {
		return err
	}
	*to = words[0]
	return nil
}

func (w *initAnswers) takeGeo(words []string) error  { return takeName(&w.geo, words) }
func (w *initAnswers) takeNode(words []string) error { return takeName(&w.node, words) }

func (w *initAnswers) takeVIPs(words []string) error {
	if _, err := parseVIPs(words); err != nil {
		return err
	}
	w.vips = words
	return nil
}

func (w *initAnswers) takeNeighbor(words []string) error {
	var addresses []string
	for len(words) > 0 && strings.ContainsAny(words[0], ".:") {
		addresses, words = append(addresses, words[0]), words[1:]
	}
	if len(addresses) == 0 || len(words) != 2 {
		return errors.New("want an address and two AS numbers: the router's, then ours")
	}
	if _, err := parseNeighbors(addresses); err != nil {
		return err
	}
	theirs, err := parseASN(words[0])
	if err != nil {
		return err
	}
	ours, err := parseASN(words[1])
	if err != nil {
		return err
	}
	w.neighbors, w.neighborASN, w.asn = addresses, theirs, ours
	return nil
}

func (w *initAnswers) takeService(words []string) error {
	if len(words) != 2 {
		return errors.New("want a host name and a URL")
	}
	if u, err := url.Parse(words[1]); err != nil || u.Port() == "" {
		return fmt.Errorf("%q is not a backend: want http://HOST:PORT or h2c://HOST:PORT", words[1])
	}
	w.host, w.backend = words[0], words[1]
	return nil
}

func (w *initAnswers) takeCertificate(words []string) error {
	switch {
	case len(words) == 1 && words[0] == selfSigned:
		w.cert, w.key = selfSigned, ""
	case len(words) == 2:
		w.cert, w.key = words[0], words[1]
	default:
		return fmt.Errorf("want two files, or %s", selfSigned)
	}
	return nil
}

// finish checks the answers, whoever gave them, and adds what follows from
// them.
func (w *initAnswers) finish() error {
	if _, err := parseVIPs(w.vips); err != nil {
		return usagef("init --vip: %v", err)
	}
	neighbors, err := parseNeighbors(w.neighbors)
	if err != nil {
		return usagef("init --neighbor: %v", err)
	}
	if w.cert == selfSigned {
		if w.key != "" {
			return usagef("init --key %s: a self-signed certificate has its own", w.key)
		}
		w.cert = ""
	}
	for _, path := range []*string{&w.cert, &w.key} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if w.routerID == "" {
		if w.routerID = ownAddress(neighbors); w.routerID == "" {
			return usagef("init: this machine's IPv4 address towards the router is not known: give --router-id, an IPv4 address that names it in BGP")
		}
	}
	return nil
}

// ownAddress returns the IPv4 address from which this machine reaches one of
// the neighbors, "" for none. Nothing is sent.
func ownAddress(neighbors []netip.Addr) string {
	for _, n := range neighbors {
		if !n.Is4() {
			continue
		}
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(n, 179)))
		if err != nil {
			continue
		}
		own := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		_ = conn.Close()
		return own.String()
	}
	return ""
}

// parseVIPs reads ADDRESS or ADDRESS/LENGTH, at most one a family, as an
// address and the prefix announced for it.
func parseVIPs(words []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, word := range words {
		if !strings.Contains(word, "/") {
			a, err := netip.ParseAddr(word)
			if err != nil {
				return nil, fmt.Errorf("%q is not an address, like 203.0.113.10 or 203.0.113.10/24", word)
			}
			word += "/48"
			if a.Is4() {
				word = a.String() + "/24"
			}
		}
		p, err := netip.ParsePrefix(word)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is not an address, like 203.0.113.10 or 203.0.113.10/24", word)
		case p.Addr() == p.Masked().Addr() && p.Bits() < p.Addr().BitLen():
			return nil, fmt.Errorf("%s is a prefix: want an address in it that clients go to, like %s/%d", p, p.Addr().Next(), p.Bits())
		case len(out) == 1 && out[0].Addr().Is4() == p.Addr().Is4():
			return nil, errors.New("want at most one IPv4 and one IPv6 address; more can be added to the file")
		}
		out = append(out, p)
	}
	if len(out) == 0 || len(out) > 2 {
		return nil, errors.New("want an address, or one of each family")
	}
	return out, nil
}

func parseNeighbors(words []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, word := range words {
		a, err := netip.ParseAddr(word)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is not an address, like 192.0.2.1", word)
		case len(out) == 1 && out[0].Is4() == a.Is4():
			return nil, errors.New("want at most one IPv4 and one IPv6 address; more routers can be added to the file")
		}
		out = append(out, a)
	}
	if len(out) == 0 || len(out) > 2 {
		return nil, errors.New("want an address, or one of each family")
	}
	return out, nil
}

func parseASN(word string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToUpper(word), "AS"), 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not an AS number, like 65001", word)
	}
	return uint32(n), nil
}

// A neighborAnswer is a neighbor as the file has it.
type neighborAnswer struct {
	Address netip.Addr
	Family  string
}

// render returns the file.
func (w *initAnswers) render() ([]byte, error) {
	vips, err := parseVIPs(w.vips)
	if err != nil {
		return nil, err
	}
	neighbors, err := parseNeighbors(w.neighbors)
	if err != nil {
		return nil, err
	}
	data := struct {
		Geo, Node, RouterID, Host, Backend, Cert, Key string
		Prefixes, Addresses                           string
		Neighbors                                     []neighborAnswer
		NeighborASN, ASN                              uint32
	}{
		Geo: w.geo, Node: w.node, RouterID: w.routerID, Host: w.host, Backend: w.backend, Cert: w.cert, Key: w.key,
		NeighborASN: w.neighborASN, ASN: w.asn,
	}
	var prefixes, addresses []string
	for _, v := range vips {
		prefixes, addresses = append(prefixes, strconv.Quote(v.Masked().String())), append(addresses, strconv.Quote(v.Addr().String()))
	}
	data.Prefixes, data.Addresses = strings.Join(prefixes, ", "), strings.Join(addresses, ", ")
	for _, n := range neighbors {
		family := "ipv6"
		if n.Is4() {
			family = "ipv4"
		}
		data.Neighbors = append(data.Neighbors, neighborAnswer{n, family})
	}
	t, err := template.New("edged.yaml").Parse(initTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, data)
	return out.Bytes(), err
}
