package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"anyedge/internal/interop"
)

// ngtcp2's client with GnuTLS speaks HTTP/3 by nghttp3.
func TestNgtcp2(t *testing.T) {
	port := fmt.Sprint(edge.TLS.Port())
	client := func(t *testing.T, args ...string) {
		t.Helper()
		program(t, "", "gtlsclient", append([]string{"-q", "--exit-on-all-streams-close", "--timeout=30s"}, args...)...)
	}
	base := "https://localhost:" + port
	t.Run("downloads", func(t *testing.T) {
		dir := t.TempDir()
		sizes := []int{0, 1, 1000, 3_000_000}
		args := []string{"--download=" + dir, "127.0.0.1", port}
		for _, n := range sizes {
			args = append(args, fmt.Sprintf("%s/bytes/%d", base, n))
		}
		client(t, args...)
		for _, n := range sizes {
			got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(n)))
			if err != nil || string(got) != string(interop.Content(n)) {
				t.Errorf("%d bytes of %d, or wrong ones: %v", len(got), n, err)
			}
		}
	})
	t.Run("an upload", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "upload")
		if err := os.WriteFile(file, interop.Content(1_000_000), 0o600); err != nil {
			t.Fatal(err)
		}
		client(t, "--download="+dir, "-m", "POST", "-d", file, "127.0.0.1", port, base+"/sum")
		got, err := os.ReadFile(filepath.Join(dir, "sum"))
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(1_000_000)(t, string(got))
	})
	for name, args := range map[string][]string{
		"a key update":      {"--key-update=1ms"},
		"a new address":     {"--change-local-addr=1ms"},
		"lost packets":      {"--tx-loss=0.02", "--rx-loss=0.02"},
		"an empty ID":       {"--scid="},
		"small windows":     {"--max-data=20000", "--max-stream-data-bidi-local=10000"},
		"ChaCha20":          {"--ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"},
		"P-384":             {"--groups=-GROUP-ALL:+GROUP-SECP384R1"},
		"a hundred streams": {"-n", "100"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			client(t, append(args, "--download="+dir, "127.0.0.1", port, base+"/bytes/300000")...)
			got, err := os.ReadFile(filepath.Join(dir, "300000"))
			if err != nil {
				t.Fatal(err)
			}
			if name != "a hundred streams" { // they share the file
				wantContent(300_000)(t, string(got))
			}
		})
	}
}
