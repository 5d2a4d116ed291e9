package fabric

import (
	"context"
	"sync"
	"time"
)

// goodbye bounds how long the end of Run waits for the goodbye to spread and
// for requests of others that are still being answered.
const goodbye = time.Second

// Run binds the socket, joins the other nodes and serves until ctx ends; then
// it says goodbye and closes every connection. It is ready when it can be
// reached; that other nodes are not there is no reason to wait. Run is called
// once.
func (f *Fabric) Run(ctx context.Context, ready func()) error {
	e, err := f.open()
	if err != nil {
		return err
	}
	f.end.Store(e)
	if err := f.members.start(); err != nil {
		e.close()
		return err
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { f.crew.run(inner) })
	for _, task := range []func(context.Context){
		f.members.follow, f.members.keepJoined, f.probe, f.knock, f.pullSome, f.keepOrders, f.watch,
		func(ctx context.Context) { f.accept(ctx, e) },
	} {
		running.Go(func() { task(inner) })
	}
	for _, addr := range f.seeds() {
		f.crew.Go(func(ctx context.Context) { f.seek(ctx, addr) })
	}
	f.log.Info("fabric is up", "addr", e.addr.String(), "node", f.id.Peer.String())
	ready()

	<-ctx.Done()
	f.leave(inner)
	for _, r := range f.roster.all() {
		for _, l := range r.links() {
			l.close(codeLeaving, "the node is stopping")
		}
	}
	cancel()
	running.Wait()
	e.close()
	return nil
}

// leave says goodbye while the requests of others are being finished.
func (f *Fabric) leave(ctx context.Context) {
	var waiting sync.WaitGroup
	waiting.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, goodbye)
		defer cancel()
		f.awaitServed(ctx)
	})
	f.members.stop()
	waiting.Wait()
}
