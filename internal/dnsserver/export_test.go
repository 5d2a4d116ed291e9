package dnsserver

import "net/netip"

// MaxPerClient is maxPerClient.
const MaxPerClient = maxPerClient

// Respond is respond.
func (s *Server) Respond(query []byte, tcp bool) []byte { return s.respond(query, tcp) }

// Known is known.
func (s *Server) Known(from netip.AddrPort) bool { return s.known(from) }

// Explain is explain.
func (s *Server) Explain(err error) error { return s.explain(err) }
