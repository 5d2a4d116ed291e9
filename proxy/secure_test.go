package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"anyedge/proxy"
)

// clientCertificate makes a certificate that is its own CA, and returns its file.
func clientCertificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// A backend gets the client's certificate as RFC 9440 says, from us alone.
func TestClientCert(t *testing.T) {
	cert, ca := clientCertificate(t)
	l := secure("https")
	l.Config.TLS.ClientAuth, l.Config.TLS.ClientCA = "request", []string{ca}
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{l, plain("http")}, Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}})
	want := ":" + base64.StdEncoding.EncodeToString(cert.Certificate[0]) + ":"
	forged := []string{"Client-Cert", ":Zm9yZ2Vk:", "client_cert", ":Zm9yZ2Vk:", "Client-Cert-Chain", ":Zm9yZ2Vk:", "X-Forwarded-Client-Cert", "Hash=forged"}
	for _, tt := range []struct {
		name, url string
		client    func(*testing.T) *http.Client
		show      bool
	}{
		{"h1", "https://shop.example/", e.client, true},
		{"h1, none", "https://shop.example/", e.client, false},
		{"plain", "http://shop.example/", e.client, false},
		{"h2", "https://shop.example/", func(t *testing.T) *http.Client {
			t.Helper()
			c := e.client(t)
			c.Transport.(*http.Transport).ForceAttemptHTTP2 = true
			return c
		}, true},
		{"h3", "https://" + e.addr("https") + "/", e.http3Client, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.client(t)
			if tt.show {
				switch tr := c.Transport.(type) {
				case *http.Transport:
					tr.TLSClientConfig.Certificates = []tls.Certificate{cert}
				case *http3.Transport:
					tr.TLSClientConfig.Certificates = []tls.Certificate{cert}
				}
			}
			r, _ := http.NewRequestWithContext(t.Context(), "GET", tt.url, nil)
			r.Host = "shop.example"
			for i := 0; i < len(forged); i += 2 {
				r.Header[forged[i]] = []string{forged[i+1]}
			}
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var got echoed
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			var values []string
			for name, v := range got.Header {
				if strings.Contains(strings.ToLower(name), "client") {
					values = append(values, v...)
				}
			}
			switch {
			case tt.show && (len(values) != 1 || got.Header.Get("Client-Cert") != want):
				t.Errorf("the backend got %q", values)
			case !tt.show && len(values) != 0:
				t.Errorf("the backend got %q, want none", values)
			}
		})
	}
}

// Without a certificate that counts there is no connection where one is required.
func TestClientCertRequired(t *testing.T) {
	_, ca := clientCertificate(t)
	other, _ := clientCertificate(t)
	l := secure("https")
	l.Config.TLS.ClientAuth, l.Config.TLS.ClientCA = "require", []string{ca}
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{l}, Services: []proxy.ServiceConfig{shop(backend(t, echo).URL)}})
	for i, show := range [][]tls.Certificate{nil, {other}} {
		c := e.client(t)
		c.Transport.(*http.Transport).TLSClientConfig.Certificates = show
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "https://shop.example/", nil)
		if resp, err := c.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			t.Errorf("answered with %d", resp.StatusCode)
		}
		waitFor(t, "the count", func() bool { return e.refused("https", proxy.RuleClientCert) == i+1 })
	}
}

// A connection carries requests for the hosts of its certificate alone: a browser
// that coalesces too much is sent to another one.
func TestMisdirected(t *testing.T) {
	s := shop(backend(t, says("here")).URL)
	s.Hosts = []string{"*"}
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}})
	for _, h2 := range []bool{false, true} {
		c := e.client(t)
		c.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
		for host, want := range map[string]int{
			"shop.example": 200, "SHOP.example:443": 200, "blog.example": 200, // of *.example
			"elsewhere.test": 421, "a.b.example": 421,
		} {
			r, _ := http.NewRequestWithContext(t.Context(), "GET", "https://shop.example/", nil)
			r.Host = host
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("h2 %v, %s: %d, want %d", h2, host, resp.StatusCode, want)
			}
		}
	}
	if n := e.refused("https", proxy.RuleMisdirected); n != 4 {
		t.Errorf("%d counted, want 4", n)
	}
	// Who gives no name (an address has none) has not been misled.
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+e.addr("https")+"/", nil)
	r.Host = "elsewhere.test"
	c := e.client(t)
	c.Transport.(*http.Transport).TLSClientConfig.ServerName = ""
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("without a name: %d", resp.StatusCode)
	}
}

// unknown_names: refuse.
func TestUnknownNames(t *testing.T) {
	l := secure("https")
	l.Config.TLS.UnknownNames = "refuse"
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{l}})
	for name, want := range map[string]bool{"shop.example": true, "elsewhere.test": false, "": false} {
		c := tls.Client(dialFrom(t, "127.0.0.1", e.addr("https")), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err := c.HandshakeContext(t.Context()); (err == nil) != want {
			t.Errorf("%q: %v, want success %v", name, err, want)
		}
	}
	waitFor(t, "the counts", func() bool { return e.refused("https", proxy.RuleServerName) == 2 })
}
