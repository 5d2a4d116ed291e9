package configs_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"anyedge/configs"

	"github.com/google/go-cmp/cmp"
)

// TestSyntax has what YAML or the schema refuse, with places.
func TestSyntax(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := range 12 {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 9))
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{
			"x:1:1: error: version: version is required",
			"x:1:1: error: listeners: listeners is required",
			"x:1:1: error: services: services is required",
		}},
		{"only comments", "# a\n# b\n", []string{
			"x:1:1: error: version: version is required",
			"x:1:1: error: listeners: listeners is required",
			"x:1:1: error: services: services is required",
		}},
		{"text", "hello\n", []string{`x:1:1: error: a configuration is a section with fields, like "version: 1"`}},
		{"tab", "version: 1\nlog:\n\tlevel: info\n", []string{"x:3:1: error: a tab cannot indent YAML: use spaces"}},
		{"bracket", "version: [1\n", []string{"x:1:10: error: sequence end token ']' not found"}},
		{"not UTF-8", "version: 1\nlog: \xff\xfe\n", []string{"x:2:6: error: byte 0xff is not UTF-8"}},
		{"control character", "a: \x1b[31m\n", []string{"x:1:4: error: control character 0x1b"}},
		{"nul", "a: \x00\n", []string{"x:1:4: error: control character 0x00"}},
		{"two documents", "---\nversion: 1\n---\nversion: 1\n", []string{
			`x:4:1: error: a second YAML document; a configuration is one document, without "---" inside`,
		}},
		{"duplicate fields", document("log: {level: info, level: warn}\nlog: {}\n"), []string{
			`x:4:20: error: "level" was already given in line 4`,
			`x:5:1: error: "log" was already given in line 4`,
		}},
		{"merge key", document("log: &l {level: info}\nadmin:\n  <<: *l\n"), []string{
			`x:6:3: error: a field's name is plain text; "<<" has no meaning here`,
		}},
		{"tag", document("log: !x {level: info}\n"), []string{"x:4:6: error: YAML tags like !x have no meaning here"}},
		{"unknown anchor", document("log: *nope\n"), []string{"x:4:6: error: no anchor &nope stands before this"}},
		{"anchor in itself", document("log: &l {access: *l}\n"), []string{"x:4:18: error: no anchor &l stands before this"}},
		{"alias bomb", bomb.String(), []string{
			"x:1:10: error: more than 200000 values, or nested deeper than 64 (aliases count each time)",
		}},
		{"deep flow", "a: " + strings.Repeat("[", 100_000), []string{"x:1:68: error: nested deeper than 64"}},
		{"deep list", strings.Repeat("- ", 5000), []string{"x:1:129: error: nested deeper than 64"}},
		{"too large", "#" + strings.Repeat("x", 4<<20), []string{"x:1:1: error: the file has 4194305 bytes, the limit is 4194304 (4 MiB)"}},

		{"unknown field", document("log:\n  levell: info\n"), []string{`x:5:3: error: log.levell: unknown field "levell" (did you mean "level"?)`}},
		{"unknown field, nothing near", document("log: {zzz: 1}\n"), []string{`x:4:7: error: log.zzz: unknown field "zzz"`}},
		{"later field", document("trace: {otlp: x}\n"), []string{`x:4:1: error: trace: "trace" is known, not in this version of edged`}},
		{"later value", document("bgp: {mode: child, asn: 1}\n"), []string{`x:4:13: error: bgp.mode: "child" is known, not in this version of edged`}},
		{"later way to a node", document("l4: {forward: gue}\n"), []string{`x:4:15: error: l4.forward: "gue" is known, not in this version of edged`}},
		{"unknown value", document("log: {level: inof}\n"), []string{
			`x:4:14: error: log.level: got "inof", want debug, info, warn or error (did you mean "info"?)`,
		}},
		{"unit missing", document("shutdown: {max: 9}\n"), []string{`x:4:17: error: shutdown.max: a duration needs a unit, like "9s" or "300ms"`}},
		{"not a duration", document("shutdown: {max: 9 s}\n"), []string{
			`x:4:17: error: shutdown.max: "9 s" is not a duration: want a number with ms, s, m or h, like 9s`,
		}},
		{"negative duration", document("shutdown: {max: -9s}\n"), []string{`x:4:17: error: shutdown.max: -9s is negative`}},
		{"size without unit", document("listeners: [{name: a, bind: ['127.0.0.1:1'], limits: {body: 7}}]\n"), []string{
			`x:3:61: error: listeners[0].limits.body: a size needs a unit, like "64KiB" or "0B"`,
		}},
		{"not a size", document("listeners: [{name: a, bind: ['127.0.0.1:1'], limits: {body: 7MB}}]\n"), []string{
			`x:3:61: error: listeners[0].limits.body: "7MB" is not a size: want a whole number with B, KiB, MiB or GiB, like 64KiB`,
		}},
		{"number for text", document("listeners: [{name: a, bind: ['127.0.0.1:1'], tls: {certificates: [m], min_version: 1.2}}]\ncertificates: [{name: m, self_signed: true, domains: [a]}]\n"), []string{
			`x:3:84: error: listeners[0].tls.min_version: got a number, want text: put it in quotes`,
		}},
		{"text for list", document("services: [{name: a, hosts: x, backends: [{name: b, url: 'http://127.0.0.1:1'}]}]\n"), []string{
			`x:3:29: error: services[0].hosts: got text, want a list: […]`,
		}},
		{"list for section", document("log: [a]\n"), []string{`x:4:1: error: log: got a list, want a section with fields`}},
		{"leading zero", document("node: {number: 010}\n"), []string{`x:4:16: error: node.number: got text, want a whole number`}},
		{"out of range", document("log: {access: {sample: 20}}\n"), []string{
			`x:4:24: error: log.access.sample: got 20, want a number between 0 and 1 (20% is 0.2)`,
		}},
		{"too large a number", document("node: {number: 70000}\n"), []string{
			`x:4:16: error: node.number: got 70000, want a whole number between 1 and 65535`,
		}},
		{"huge number", document("vips: [{name: a, prefixes: [203.0.113.0/24], guard: {min_others: 18446744073709551615}}]\n"), []string{
			`x:4:1: warning: vips: there is no section bgp: nothing announces these VIPs`,
			`x:4:66: error: vips[0].guard.min_others: 18446744073709551615 is too large`,
		}},
		{"wrong version", "version: 2\nlisteners: []\nservices: []\n", []string{`x:1:10: error: version: got 2, want 1`}},
		{"address in a flow list in a flow mapping", document("geos: [{name: fra, number: 1, fabric: [192.0.2.1:8443, 192.0.2.2:x ]}]\nnode: {geo: fra}\n"), []string{
			`x:4:56: error: geos[0].fabric[1]: "192.0.2.2:x" is not ADDRESS:PORT: want one like 192.0.2.1:8443 or [2001:db8::1]:8443`,
		}},
		{"null is absent", document("log:\nadmin: ~\n"), nil},
		{"aliases of whole values", document("log: {access: {always_on_status: &x [5xx]}}\nvips: []\n"), nil},
		{"wide characters", document("log: {\"日本\": 1}\n"), []string{`x:4:7: error: log.日本: unknown field "日本"`}},
		{"byte order mark and CRLF", "\ufeff" + strings.ReplaceAll(document("lgo: {}\n"), "\n", "\r\n"), []string{
			`x:4:1: error: lgo: unknown field "lgo" (did you mean "log"?)`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			c, report := configs.Parse("x", []byte(tt.text))
			var got []string
			for _, p := range report.Problems {
				got = append(got, p.String())
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
			if (c == nil) != (report.Errors() > 0) {
				t.Errorf("config %v with %s", c, report.Summary())
			}
			if d := time.Since(start); d > 30*time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
}

// TestManyFields: the parser is slow with large mappings, so they end early.
func TestManyFields(t *testing.T) {
	var b strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&b, "k%d: v\n", i)
	}
	_, report := configs.Parse("x", []byte(b.String()))
	if report.Errors() != 1 || report.Problems[0].Code != "file-too-complex" {
		t.Errorf("got %v", brief(report))
	}
}

// TestManyBackends: a large fleet's file is no problem.
func TestManyBackends(t *testing.T) {
	var b strings.Builder
	b.WriteString("services:\n  - name: shop\n    hosts: ['*']\n    backends:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "      - name: b%d\n        url: http://127.0.0.1:%d\n", i, 1000+i)
	}
	c, report := configs.Parse("x", []byte(document(b.String())))
	if c == nil || len(c.Services[0].Backends) != 10_000 {
		t.Errorf("got %s", report.Summary())
	}
}

func TestPrint(t *testing.T) {
	data, err := os.ReadFile("testdata/mistakes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/mistakes.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, report := configs.Parse("mistakes.yaml", data)
	var b bytes.Buffer
	if err := report.Print(&b, false); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, report.Summary())
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	b.Reset()
	if err := report.Print(&b, true); err != nil || !strings.Contains(b.String(), "\x1b[31m^") {
		t.Errorf("no color: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, path := range []string{"edged.yaml", "examples/local.yaml", "examples/three-geos.yaml", "testdata/language.yaml", "testdata/mistakes.yaml"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a: &a [*a]\n? b\n: c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, report := configs.Parse("x", data)
		if (c == nil) != (report.Errors() > 0) {
			t.Errorf("config %v with %s", c, report.Summary())
		}
		for _, p := range report.Problems {
			if p.Line < 1 || p.Column < 1 || p.Code == "" || p.Message == "" {
				t.Errorf("problem without place: %+v", p)
			}
		}
		if err := report.Print(new(bytes.Buffer), true); err != nil {
			t.Error(err)
		}
		if c != nil {
			c.Digest()
		}
	})
}
