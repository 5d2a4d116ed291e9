package interop_test

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"anyedge/internal/interop"
)

// A socketCase is what a client sends and what it has to get, by the rules of
// RFC 6455; the groups are those of the Autobahn test suite.
type socketCase struct {
	name string
	send [][]byte
	want []string
}

func echoed(op byte, payload []byte) string { return describe(fin|op, payload) }

// socketCases are the cases without compression, group by group.
func socketCases() []socketCase {
	bye := closing(1000, "bye")
	var all []socketCase
	add := func(group int, name string, want []string, send ...[]byte) {
		all = append(all, socketCase{fmt.Sprintf("%d %s", group, name), send, want})
	}
	wrong := []string{"close 1002"}
	// 1: framing.
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} {
		text := bytes.Repeat([]byte("*"), n)
		add(1, fmt.Sprint("text of ", n), []string{echoed(opText, text), "close 1000"}, frame(fin|opText, text), bye)
		add(1, fmt.Sprint("binary of ", n), []string{echoed(opBinary, interop.Content(n)), "close 1000"}, frame(fin|opBinary, interop.Content(n)), bye)
	}
	// 2: pings and pongs.
	for _, p := range []string{"", "hello", "\x00\xff\xfe\xfd", strings.Repeat("p", 125)} {
		add(2, fmt.Sprint("ping of ", len(p)), []string{echoed(opPong, []byte(p)), "close 1000"}, frame(fin|opPing, []byte(p)), bye)
	}
	add(2, "ping of 126", wrong, frame(fin|opPing, make([]byte, 126)))
	add(2, "unasked pongs", []string{"close 1000"}, frame(fin|opPong, nil), frame(fin|opPong, []byte("unasked")), bye)
	var pings [][]byte
	var pongs []string
	for i := range 10 {
		pings = append(pings, frame(fin|opPing, []byte{byte(i)}))
		pongs = append(pongs, echoed(opPong, []byte{byte(i)}))
	}
	add(2, "ten pings", append(pongs, "close 1000"), append(pings, bye)...)
	// 3 and 4: reserved bits and opcodes.
	for bits := byte(rsv3); bits <= rsv1|rsv2|rsv3; bits += rsv3 {
		for _, op := range []byte{opText, opBinary, opPing, opClose} {
			add(3, fmt.Sprintf("bits %#x, opcode %d", bits, op), wrong, frame(fin|bits|op, []byte("xx")))
		}
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		add(4, fmt.Sprint("opcode ", op), wrong, frame(fin|op, nil))
		add(4, fmt.Sprint("text, then opcode ", op), []string{echoed(opText, []byte("one")), "close 1002"}, frame(fin|opText, []byte("one")), frame(fin|op, []byte("x")))
	}
	all = append(all, fragmentCases()...)
	all = append(all, textCases()...)
	return append(all, closeCases()...)
}

// fragmentCases are group 5, and what of groups 9 and 10 is of its kind.
func fragmentCases() []socketCase {
	bye := closing(1000, "")
	one, two := frame(opText, []byte("one ")), frame(fin|opContinuation, []byte("two"))
	whole := echoed(opText, []byte("one two"))
	large := interop.Content(1 << 20)
	var pieces [][]byte
	for piece := range slices.Chunk(large, 1300) {
		op := byte(opContinuation)
		if len(pieces) == 0 {
			op = opBinary
		}
		pieces = append(pieces, frame(op, piece))
	}
	pieces = append(pieces, frame(fin|opContinuation, nil), bye)
	return []socketCase{
		{"5 a ping in parts", [][]byte{frame(opPing, []byte("a")), frame(fin|opContinuation, []byte("b"))}, []string{"close 1002"}},
		{"5 a pong in parts", [][]byte{frame(opPong, []byte("a")), frame(fin|opContinuation, []byte("b"))}, []string{"close 1002"}},
		{"5 a text in parts", [][]byte{one, two, bye}, []string{whole, "close 1000"}},
		{"5 empty parts", [][]byte{frame(opText, nil), frame(opContinuation, nil), frame(fin|opContinuation, nil), bye}, []string{echoed(opText, nil), "close 1000"}},
		{"5 a ping between parts", [][]byte{one, frame(fin|opPing, []byte("p")), two, bye}, []string{echoed(opPong, []byte("p")), whole, "close 1000"}},
		{"5 a continuation of nothing", [][]byte{frame(fin|opContinuation, []byte("x"))}, []string{"close 1002"}},
		{"5 a continuation behind a whole", [][]byte{frame(fin|opText, []byte("w")), frame(opContinuation, []byte("x"))}, []string{echoed(opText, []byte("w")), "close 1002"}},
		{"5 a text inside of another", [][]byte{one, frame(fin|opText, []byte("x"))}, []string{"close 1002"}},
		{"9 a message of 4 MiB", [][]byte{frame(fin|opBinary, interop.Content(4<<20)), bye}, []string{echoed(opBinary, interop.Content(4<<20)), "close 1000"}},
		{"10 a message of 1 MiB in parts", pieces, []string{echoed(opBinary, large), "close 1000"}},
	}
}

// textCases are group 6: UTF-8.
func textCases() (all []socketCase) {
	bye := closing(1000, "")
	for _, text := range []string{
		"κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\x00", "\u0080", "\u07ff", "\u0800", "\uffff", "\U00010000", "\U0010ffff", "\ufffd", "\ue000",
	} {
		want := []string{echoed(opText, []byte(text)), "close 1000"}
		all = append(all, socketCase{fmt.Sprintf("6 %q", text), [][]byte{frame(fin|opText, []byte(text)), bye}, want})
		var parts [][]byte // cut inside of characters
		for i := range len(text) {
			parts = append(parts, frame(opContinuation, []byte{text[i]}))
		}
		parts[0] = frame(opText, []byte{text[0]})
		all = append(all, socketCase{fmt.Sprintf("6 %q byte by byte", text), append(parts, frame(fin|opContinuation, nil), bye), want})
	}
	for _, text := range []string{
		"\x80", "\xbf", "\xc0\xaf", "\xc3", "\xe0\x80\xaf", "\xf8\x88\x80\x80\x80", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf4\x90\x80\x80", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", "\xfe", "\xff",
	} {
		all = append(all, socketCase{fmt.Sprintf("6 %q", text), [][]byte{frame(fin|opText, []byte(text)), closing(1007, "")}, []string{"close 1007"}})
	}
	return all
}

// closeCases are group 7.
func closeCases() []socketCase {
	text := frame(fin|opText, []byte("x"))
	all := []socketCase{
		{"7 text, close", [][]byte{text, closing(1000, "")}, []string{echoed(opText, []byte("x")), "close 1000"}},
		{"7 two closes", [][]byte{closing(1000, ""), closing(1000, "")}, []string{"close 1000"}},
		{"7 a ping behind a close", [][]byte{closing(1000, ""), frame(fin|opPing, nil)}, []string{"close 1000"}},
		{"7 a text behind a close", [][]byte{closing(1000, ""), text}, []string{"close 1000"}},
		{"7 a close inside of a message", [][]byte{frame(opText, []byte("part")), closing(1000, "")}, []string{"close 1000"}},
		{"7 an empty close", [][]byte{frame(fin|opClose, nil)}, []string{"close"}},
		{"7 a close of one byte", [][]byte{frame(fin|opClose, []byte("a"))}, []string{"close 1002"}},
		{"7 a long reason", [][]byte{closing(1000, strings.Repeat("r", 123))}, []string{"close 1000"}},
		{"7 a reason too long", [][]byte{closing(1000, strings.Repeat("r", 124))}, []string{"close 1002"}},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		all = append(all, socketCase{fmt.Sprint("7 code ", code), [][]byte{closing(code, "why")}, []string{fmt.Sprint("close ", code)}})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all, socketCase{fmt.Sprint("7 code ", code), [][]byte{closing(code, "")}, []string{"close 1002"}})
	}
	return all
}

// Every case ends as it does without an edge between, however its bytes are cut.
func TestWebSocketRules(t *testing.T) {
	ways := []struct{ way, chopping string }{
		{"direct", "whole"}, {"h1", "bytes"}, {"h1 TLS", "whole"}, {"h2", "odd"}, {"h3", "odd"},
	}
	cases := socketCases()
	for _, w := range ways {
		t.Run(w.way+" "+w.chopping, func(t *testing.T) {
			for _, c := range cases {
				got, err := converse(open[w.way](t), choppings[w.chopping](bytes.Join(c.send, nil)))
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", c.name, diff)
				}
			}
		})
	}
}

// converse writes the pieces and describes what comes back until the end.
func converse(tu tunnel, pieces [][]byte) ([]string, error) {
	defer tu.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		for _, p := range pieces {
			if _, err := tu.Write(p); err != nil {
				return // the server has closed: what it said is read below
			}
		}
	}()
	got, err := readFrames(bufio.NewReader(tu))
	tu.Close()
	<-written
	return got, err
}

// What is under way arrives when a client ends its direction.
func TestWebSocketHalfClose(t *testing.T) {
	for _, way := range []string{"direct", "h1", "h1 TLS", "h2", "h3"} {
		t.Run(way, func(t *testing.T) {
			tu := open[way](t)
			defer tu.Close()
			content := interop.Content(200_000)
			if _, err := tu.Write(append(frame(fin|opBinary, content), closing(1000, "")...)); err != nil {
				t.Fatal(err)
			}
			if err := tu.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := readFrames(bufio.NewReader(tu))
			if err != nil || !slices.Equal(got, []string{echoed(opBinary, content), "close 1000"}) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Groups 12 and 13: the edge passes what the ends agreed on, and compressed
// messages as they are.
func TestWebSocketCompression(t *testing.T) {
	for name, base := range map[string]string{"h1": "ws://" + edge.Plain.String(), "h1 TLS": "wss://" + edge.TLS.String()} {
		for mode, what := range map[websocket.CompressionMode]string{
			websocket.CompressionContextTakeover: "with context takeover", websocket.CompressionNoContextTakeover: "without context takeover",
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				c, resp, err := websocket.Dial(t.Context(), base+"/ws", &websocket.DialOptions{
					HTTPClient: goWays(t)[1].client, Host: interop.Name, CompressionMode: mode, CompressionThreshold: 1,
				})
				if err != nil {
					t.Fatal(err)
				}
				defer c.CloseNow()
				if ext := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.Contains(ext, "permessage-deflate") {
					t.Fatalf("no compression was agreed on: %q", ext)
				}
				c.SetReadLimit(1 << 22)
				for _, n := range []int{16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072} {
					for _, content := range [][]byte{interop.Content(n), bytes.Repeat([]byte("compress me "), n/12)} {
						if err := c.Write(t.Context(), websocket.MessageBinary, content); err != nil {
							t.Fatal(n, err)
						}
						_, got, err := c.Read(t.Context())
						if err != nil || !bytes.Equal(got, content) {
							t.Fatalf("%d bytes came back as %d: %v", len(content), len(got), err)
						}
					}
				}
				if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
