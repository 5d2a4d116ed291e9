package interop_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// h2load and wrk ask as fast as they can, over many connections; every request
// has to succeed.
func TestH2load(t *testing.T) {
	secure, plain := "https://"+edge.TLS.String(), "http://"+edge.Plain.String()
	tests := []struct {
		name string
		args []string
	}{
		{"h1", []string{"--h1", "-n", "3000", "-c", "50", plain + "/bytes/1000"}},
		{"h1 TLS", []string{"--h1", "-n", "3000", "-c", "50", secure + "/bytes/1000"}},
		{"h2", []string{"-n", "5000", "-c", "20", "-m", "50", secure + "/bytes/1000"}},
		{"h2 without TLS", []string{"-n", "5000", "-c", "20", "-m", "50", "http://" + edge.H2C.String() + "/bytes/1000"}},
		{"h2, large", []string{"-n", "200", "-c", "5", "-m", "10", secure + "/chunked/300000"}},
		{"h2, small windows", []string{"-n", "300", "-c", "5", "-m", "10", "-w", "12", "-W", "14", secure + "/bytes/30000"}},
		{"h2 on both sides", []string{"-n", "5000", "-c", "20", "-m", "50", secure + "/h2c/bytes/1000"}},
		{"a connection each", []string{"--h1", "-n", "400", "-c", "400", secure + "/bytes/1000"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := program(t, "", "h2load", append([]string{"-t", "1"}, test.args...)...)
			want := fmt.Sprintf(" %s succeeded, 0 failed, 0 errored, 0 timeout", test.args[slices.Index(test.args, "-n")+1])
			if !strings.Contains(out, want) {
				t.Errorf("not all succeeded:\n%s", last(out))
			}
		})
	}
}

var wrkDone = regexp.MustCompile(`(\d+) requests in`)

func TestWrk(t *testing.T) {
	for _, base := range []string{"http://" + edge.Plain.String(), "https://" + edge.TLS.String()} {
		out := program(t, "", "wrk", "-t", "1", "-c", "30", "-d", "1s", "--timeout", "30s", base+"/bytes/1000")
		if m := wrkDone.FindStringSubmatch(out); m == nil || m[1] == "0" || strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
			t.Errorf("%s", out)
		}
	}
}
