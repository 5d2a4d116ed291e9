package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Questions to a segment: as many as RFC 5227 section 1.1 wants, but closer to
// each other. Its seconds are for links that lose packets or wake hosts up; an
// edge waits for these before it serves.
const (
	questions    = 3
	questionGap  = 250 * time.Millisecond
	lastQuestion = 500 * time.Millisecond // waited for after the last
)

// An Owner is another host that has an address.
type Owner struct {
	MAC       net.HardwareAddr // empty: it did not say
	Interface string           // behind which it answered
}

// String returns "MAC on INTERFACE".
func (o *Owner) String() string {
	mac := "of unknown MAC"
	if len(o.MAC) > 0 {
		mac = o.MAC.String()
	}
	return mac + " on " + o.Interface
}

// Advice says what to do about it, for a person.
func (o *Owner) Advice() string {
	return "take the address away there; if that is another edge of this geo, set arp_ignore=1 and arp_announce=2 there"
}

// FindOwner asks the hosts on connected segments whether one of them has a. An
// address that is in no connected subnet, as anycast addresses usually are,
// has none. It needs CAP_NET_RAW where there is a segment to ask, and takes a
// second when nobody answers.
func FindOwner(ctx context.Context, a netip.Addr) (*Owner, error) {
	list, err := assigned()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	f := findOwners(ctx, list, []netip.Addr{a})[0]
	return f.owner, f.err
}

// found is what became of one question.
type found struct {
	owner *Owner
	err   error
}

// findOwners asks for all addresses at once; list are this machine's addresses.
func findOwners(ctx context.Context, list []netlink.Addr, all []netip.Addr) []found {
	out := make([]found, len(all))
	var mu sync.Mutex // guards out
	var wg sync.WaitGroup
	own := ownMACs()
	for i, a := range all {
		links, err := segments(list, a)
		out[i].err = err
		for _, link := range links {
			// Here, not in the goroutine: the socket belongs to the namespace of
			// the thread that opens it.
			q, err := newQuestion(link, a, own)
			if err != nil {
				out[i].err = err
				continue
			}
			wg.Go(func() {
				owner, err := q.ask(ctx)
				mu.Lock()
				defer mu.Unlock()
				if owner != nil {
					out[i].owner = owner
				}
				out[i].err = errors.Join(out[i].err, err)
			})
		}
	}
	wg.Wait()
	return out
}

// ownMACs returns the hardware addresses of this machine.
func ownMACs() []net.HardwareAddr {
	links, _ := netlink.LinkList() // none known: an answer of our own counts as another's, and nothing is added
	var out []net.HardwareAddr
	for _, l := range links {
		out = append(out, l.Attrs().HardwareAddr)
	}
	return out
}

// A question is put to the hosts behind one interface.
type question struct {
	link   string
	socket *packetSocket
	packet []byte
	to     net.HardwareAddr
	answer func(packet []byte) (net.HardwareAddr, bool)
	own    []net.HardwareAddr
}

// newQuestion opens what the question needs.
func newQuestion(link netlink.Link, a netip.Addr, own []net.HardwareAddr) (*question, error) {
	attrs := link.Attrs()
	q := &question{link: attrs.Name, own: own}
	protocol := uint16(unix.ETH_P_ARP)
	if a.Is4() {
		q.packet, q.to = arpProbe(attrs.HardwareAddr, a), broadcast
		q.answer = func(b []byte) (net.HardwareAddr, bool) { return parseARP(b, a) }
	} else {
		protocol = unix.ETH_P_IPV6
		q.packet, q.to = solicitation(a)
		q.answer = func(b []byte) (net.HardwareAddr, bool) { return parseAdvertisement(b, a) }
	}
	var err error
	q.socket, err = openPackets(attrs.Index, protocol)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("ask on %s who has %s: %w: it needs %s", attrs.Name, a, err, NetRaw)
	}
	if err != nil {
		return nil, fmt.Errorf("ask on %s who has %s: %w", attrs.Name, a, err)
	}
	return q, nil
}

// ask sends the question a few times until somebody answers. Questions of other
// hosts, who are about to take the address, are no answer: edges of one geo that
// start together would keep each other from it.
func (q *question) ask(ctx context.Context) (*Owner, error) {
	defer q.socket.close()
	ctx, cancel := context.WithTimeout(ctx, (questions-1)*questionGap+lastQuestion)
	defer cancel()
	answered := make(chan *Owner, 1)
	var wg sync.WaitGroup
	wg.Go(func() { answered <- q.listen() })
	defer wg.Wait()
	defer q.socket.wake()
	again := time.NewTicker(questionGap)
	defer again.Stop()
	for sent := 0; ; {
		if sent < questions {
			if err := q.socket.send(q.to, q.packet); err != nil {
				return nil, fmt.Errorf("ask on %s: %w", q.link, err)
			}
			sent++
		}
		select {
		case o := <-answered:
			return o, nil
		case <-again.C:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// listen returns the first other host that answers; nil when the socket is woken.
func (q *question) listen() *Owner {
	buf := make([]byte, maxPacket)
	for {
		n, err := q.socket.receive(buf)
		if err != nil {
			return nil
		}
		if mac, ok := q.answer(buf[:n]); ok && !q.isOwn(mac) {
			return &Owner{MAC: mac, Interface: q.link}
		}
	}
}

func (q *question) isOwn(mac net.HardwareAddr) bool {
	for _, own := range q.own {
		if len(mac) > 0 && bytes.Equal(own, mac) {
			return true
		}
	}
	return false
}
