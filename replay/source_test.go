package replay_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anyedge/replay"

	"github.com/google/go-cmp/cmp"
)

var fra = replay.Source{
	Geo: "fra", Node: "fra-edge1", At: time.Unix(1764031200, 0),
	Hops: []string{"fra", "iad"}, State: `user-42, sig=:AAAA:"\`,
}

func sign(t *testing.T, s replay.Source) (value string, pub ed25519.PublicKey) {
	t.Helper()
	signer := replay.NewSigner([32]byte{7})
	value, err := signer.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	return value, signer.Public()
}

func TestSourceForm(t *testing.T) {
	for _, tt := range []struct {
		name   string
		source replay.Source
		want   string
	}{
		{"all", replay.Source{Geo: "fra", Node: "fra-edge1", At: time.Unix(1764031200, 5e8), Hops: []string{"fra"}, State: "user-42"}, `geo=fra, node=fra-edge1, t=1764031200, hops=(fra), state="user-42"`},
		{"no state", replay.Source{Geo: "fra", Node: "fra-edge1", At: time.Unix(1, 0), Hops: []string{"fra", "nrt"}}, `geo=fra, node=fra-edge1, t=1, hops=(fra nrt)`},
		{"a name that is no token", replay.Source{Geo: "fra", Node: "1.edge", At: time.Unix(1, 0), Hops: []string{"fra"}}, `geo=fra, node="1.edge", t=1, hops=(fra)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := sign(t, tt.source)
			rest, ok := strings.CutPrefix(got, tt.want+", sig=:")
			if sig, closed := strings.CutSuffix(rest, ":"); !ok || !closed || len(sig) != base64.StdEncoding.EncodedLen(ed25519.SignatureSize) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	value, pub := sign(t, fra)
	got, err := replay.Verify(pub, value)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fra, got); d != "" {
		t.Error(d)
	}
}

func TestVerifyRefuses(t *testing.T) {
	value, pub := sign(t, fra)
	other := replay.NewSigner([32]byte{8}).Public()
	for _, tt := range []struct {
		name  string
		pub   ed25519.PublicKey
		value string
		want  string
	}{
		{"another fleet", other, value, replay.ErrSignature.Error()},
		{"no key", nil, value, replay.ErrSignature.Error()},
		{"another geo", pub, strings.Replace(value, "geo=fra", "geo=nrt", 1), replay.ErrSignature.Error()},
		{"another time", pub, strings.Replace(value, "1764031200", "1764031201", 1), replay.ErrSignature.Error()},
		{"a space more", pub, strings.Replace(value, ", node", ",  node", 1), replay.ErrSignature.Error()},
		{"a member more", pub, "x=1, " + value, replay.ErrSignature.Error()},
		{"no signature", pub, "geo=fra, t=1", "Replay-Geo-Src: no sig at its end"},
		{"text behind", pub, value + " ", "Replay-Geo-Src: sig is no byte sequence (RFC 9651 section 3.3.5)"},
		{"not base64", pub, "geo=fra, t=1, sig=:!:", "Replay-Geo-Src: sig is no byte sequence (RFC 9651 section 3.3.5)"},
		{"empty", pub, "", "Replay-Geo-Src: no sig at its end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := replay.Verify(tt.pub, tt.value); err == nil || err.Error() != tt.want {
				t.Errorf("Verify = %v, want %s", err, tt.want)
			}
		})
	}
}

// An app does not need this package: what the package doc says is enough for
// OpenSSL.
func TestOpenSSLVerifies(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	value, pub := sign(t, fra)
	i := strings.LastIndex(value, ", sig=")
	sig, err := base64.StdEncoding.DecodeString(strings.Trim(value[i+len(", sig="):], ":"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// SubjectPublicKeyInfo of Ed25519 (RFC 8410 section 4): a fixed head and the key.
	spki := append([]byte("\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"), pub...)
	for name, content := range map[string][]byte{"pub": spki, "sig": sig, "msg": []byte(value[:i]), "bad": []byte(value[:i] + " ")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]bool{"msg": true, "bad": false} {
		cmd := exec.CommandContext(t.Context(), openssl, "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "pub", "-rawin", "-in", file, "-sigfile", "sig")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err == nil) != want {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	s := fra
	s.State = "ä"
	if v, err := replay.NewSigner([32]byte{}).Sign(s); err == nil {
		t.Errorf("state without ASCII was signed: %s", v)
	}
}

func TestFailure(t *testing.T) {
	for _, tt := range []struct {
		failure replay.Failure
		want    string
	}{
		{replay.Failure{Geo: "nrt", Reason: replay.ReasonTimeout, Elapsed: 812 * time.Millisecond}, "geo=nrt, reason=timeout, elapsed-ms=812"},
		{replay.Failure{Reason: replay.ReasonNoCandidate}, "reason=no-candidate, elapsed-ms=0"},
	} {
		if got, err := tt.failure.Value(); err != nil || got != tt.want {
			t.Errorf("Value = %s, %v; want %s", got, err, tt.want)
		}
	}
	if _, err := (replay.Failure{Reason: ""}).Value(); err == nil {
		t.Error("a failure without a reason has a form")
	}
}

func FuzzVerify(f *testing.F) {
	signer := replay.NewSigner([32]byte{7})
	value, err := signer.Sign(fra)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add("geo=fra, sig=:AAAA:")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := replay.Verify(signer.Public(), s); err == nil && s != value {
			t.Fatalf("a forgery passed: %s", s)
		} else if err != nil && !errors.Is(err, replay.ErrSignature) && !strings.HasPrefix(err.Error(), replay.FieldSource) {
			t.Fatalf("unclear error: %v", err)
		}
	})
}
