package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"anyedge/internal/api"
)

// build tells what this binary was made from.
func build() api.Version {
	v := api.Version{Daemon: api.Software, Go: runtime.Version(), Commit: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, d := range info.Deps {
		switch d.Path {
		case "github.com/osrg/gobgp/v4":
			v.GoBGP = strings.TrimPrefix(d.Version, "v")
		case "github.com/quic-go/quic-go":
			v.QUIC = strings.TrimPrefix(d.Version, "v")
		}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value[:min(len(s.Value), 12)]
		}
	}
	return v
}

// buildVersion is what `edged --version` prints.
func buildVersion() string {
	v := build()
	return fmt.Sprintf("edged %s (commit %s, %s, gobgp %s, quic-go %s)", v.Daemon, v.Commit, v.Go, v.GoBGP, v.QUIC)
}

// kernel returns the running kernel's release.
func kernel() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return ""
	}
	var b strings.Builder
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}
