package fabric_test

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"

	"anyedge/fabric"
	"anyedge/internal/world"
)

func FuzzProbe(f *testing.F) {
	f.Add(fabric.EncodeProbe(7, "fra", world.Load{Capacity: 300, Offered: 12.5}))
	f.Add([]byte{2, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		again, load, err := fabric.RecodeProbe(b)
		if err != nil {
			return
		}
		for _, v := range []float64{load.Capacity, load.Offered, load.Served, load.ShedOut, load.ShedIn, load.Budget, load.Urgent, load.Left} {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				t.Fatalf("load %+v", load)
			}
		}
		if len(again) > len(b) {
			t.Fatalf("%x grew to %x", b, again)
		}
		third, _, err := fabric.RecodeProbe(again)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x became %x, %v", again, third, err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(nodeBody("nrt-edge1", "nrt", 1, `,"later":1`)))
	f.Add([]byte(`{"kind":"order","name":"o1","writer":"a","geo":"b","payload":{"id":"o1","kind":"drain-geo","target":"fra"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		wire, err := json.Marshal(fabric.Envelope{Body: body})
		if err != nil {
			t.Fatal(err)
		}
		var e fabric.Envelope
		if err := json.Unmarshal(wire, &e); err != nil || !bytes.Equal(e.Body, body) {
			t.Fatalf("the body did not travel unharmed: %v", err)
		}
		r, err := fabric.DecodeEnvelope(e)
		if err != nil && err.Error() == "" {
			t.Fatal("a refusal without words")
		}
		if err != nil {
			return
		}
		if ring := fabric.RingOf(r); ring != nil && (ring.Generation == 0 || len(ring.Members) == 0) {
			t.Fatalf("ring %+v", ring)
		}
	})
}
