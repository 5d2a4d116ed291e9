package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"anyedge/configs"
	"anyedge/internal/lifecycle"
	"anyedge/proxy"
)

// hurried is how long running requests have when somebody wants an end now; a
// further signal cuts them off.
const hurried = 5 * time.Second

// settled is how often a stopping daemon looks whether it may end.
const settled = 50 * time.Millisecond

// runDaemon serves as the configuration says until it is told to stop.
func runDaemon(ctx context.Context, signals <-chan os.Signal, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.version {
		fmt.Fprintln(stdout, buildVersion())
		return nil
	}
	cfg, err := load(o, stderr)
	if err != nil {
		return err
	}
	if _, err := newLogger(cfg.Log, o.logLevel, io.Discard); err != nil {
		return err
	}
	if o.check {
		fmt.Fprintf(stdout, "%s: valid, digest %s\n", o.config, cfg.Digest())
		return nil
	}
	log, err := newLogger(cfg.Log, o.logLevel, stderr)
	if err != nil {
		return err
	}
	// The library's own line about UDP buffers is no part of our log.
	if err := os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true"); err != nil {
		return err
	}
	in, err := inherit(os.Getenv, os.Getpid())
	if err != nil {
		return err
	}
	n, err := wire(cfg, o, in, log)
	if err != nil {
		return err
	}
	return serve(ctx, signals, n, in)
}

// load reads the configuration and prints what is wrong with it.
func load(o options, stderr io.Writer) (*configs.Config, error) {
	cfg, report := configs.Load(o.config)
	if err := report.Print(stderr, false); err != nil {
		return nil, err
	}
	if report.Err() != nil {
		fmt.Fprintf(stderr, "%s. Nothing was changed.\n", report.Summary())
		return nil, errConfig
	}
	return cfg, nil
}

// serve runs the node. The first SIGTERM drains: every VIP is disfavoured,
// then withdrawn, while requests are still served. SIGINT, a second SIGTERM,
// the end of shutdown.max or of ctx withdraws at once and gives running
// requests some seconds; one more signal cuts them off. SIGHUP reads certificate
// files again. SIGUSR2 starts a successor that takes the sockets, and ends this
// process with what it has.
func serve(ctx context.Context, signals <-chan os.Signal, n *node, in inheritance) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go n.obey(ctx, cancel, signals, ended)
	defer n.handing.Wait()

	unwatch := func() {}
	defer func() { unwatch() }()
	group := lifecycle.Group{Log: n.log}
	n.components(&group)
	err := group.Run(ctx, func() {
		n.log.Info("edged serves", "geo", n.geo, "node", n.name, "config", n.file, "digest", n.cfg.Digest(), "socket", n.cfg.Socket())
		if ca := n.certs.CAPath(); ca != "" {
			n.log.Info("certificates of a development CA", "trust_it_with", "curl --cacert "+ca)
		}
		warnBuffers(n.log)
		n.admin.Own()
		if err := in.tellReady(); err != nil {
			n.log.Error("the predecessor was not told that this process serves", "err", err)
		}
		n.manager.ready(n.statusLine())
		unwatch = n.manager.watch(n.proxy.Alive, n.statusLine)
	})
	if err == nil {
		n.log.Info("edged ended")
	}
	return err
}

// obey does what signals say until the node has ended; stop begins that.
func (n *node) obey(ctx context.Context, stop context.CancelFunc, signals <-chan os.Signal, ended <-chan struct{}) {
	stopping, handing := false, false
	handed := make(chan error, 1)
	for {
		select {
		case err := <-handed:
			handing = false
			if err != nil {
				n.log.Error("not handed over, this process goes on", "err", err)
				continue
			}
			stopping = true
			stop()
		case sig := <-signals:
			switch {
			case sig == syscall.SIGUSR2:
				if !stopping && !handing {
					handing = true
					n.handing.Go(func() { handed <- n.handOver(ctx) })
				}
			case sig == syscall.SIGHUP:
				n.manager.reloading()
				n.reload()
				n.manager.reloaded()
			case stopping:
				n.log.Info("one more signal: running requests are cut off")
				n.proxy.Hurry(0)
			default:
				stopping = true
				n.manager.stopping("stopping", 2*n.shutdownMax+hurried)
				if !n.drain(ctx, sig, signals) {
					n.proxy.Hurry(hurried)
				}
				stop()
			}
		case <-ended:
			return
		}
	}
}

// reload reads the certificate files again; a bad one keeps its predecessor.
// Other changes of the configuration need a restart, which it says.
func (n *node) reload() {
	if err := n.certs.Reload(); err != nil {
		n.log.Error("certificates not reloaded, the old ones stay", "err", err)
	} else {
		n.log.Info("certificates reloaded")
	}
	cfg, report := configs.Load(n.file)
	switch {
	case report.Err() != nil:
		n.log.Error("the configuration file is not valid, what runs stays", "err", report.Err())
	case cfg.Digest() != n.cfg.Digest():
		n.log.Warn("the configuration file has changed; this version applies it at a restart", "runs", n.cfg.Digest(), "file", cfg.Digest())
	}
}

// drain asks steering to bring every VIP off the wire, and this node out of the
// ring, and waits until that is done. It reports false when something says not to wait.
func (n *node) drain(ctx context.Context, first os.Signal, signals <-chan os.Signal) bool {
	if first == syscall.SIGINT {
		n.log.Info("interrupted: withdrawing and ending now")
		return false
	}
	n.log.Info("draining: every VIP leaves, requests are still served", "max", n.shutdownMax.String())
	n.stopping.Store(true)
	n.steer.Wake()
	look := time.NewTicker(settled)
	defer look.Stop()
	late := time.NewTimer(n.shutdownMax)
	defer late.Stop()
	for {
		p := n.steer.Plan()
		if p.Gone() && !n.inRing(p) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case sig := <-signals:
			if sig == syscall.SIGHUP || sig == syscall.SIGUSR2 {
				continue
			}
			n.log.Info("second signal: withdrawing and ending now")
			return false
		case <-late.C:
			n.log.Warn("shutdown.max is over: withdrawing and ending now")
			return false
		case <-look.C:
		}
	}
}

// rmemNeeded is the UDP receive buffer, in bytes, that QUIC wants under load.
const rmemNeeded = 7_500_000

// warnBuffers says so when the kernel allows less.
func warnBuffers(log *slog.Logger) {
	b, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		return
	}
	if have, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && have < rmemNeeded && os.Geteuid() != 0 {
		log.Warn("QUIC may lose packets under load", "rmem_max", have, "fix", "sysctl -w net.core.rmem_max="+strconv.Itoa(rmemNeeded))
	}
}

// newLogger returns the daemon's logger; level, when given, wins over the
// configuration.
func newLogger(c proxy.LogConfig, level string, w io.Writer) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(cmp.Or(level, c.Level, "info"))); err != nil {
		return nil, fmt.Errorf("%w: log level %q: want debug, info, warn or error", errUsage, level)
	}
	o := &slog.HandlerOptions{Level: l}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return slog.New(slog.NewJSONHandler(w, o)), nil
}
