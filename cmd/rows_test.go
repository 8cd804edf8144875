package cmd

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var rowsNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A list means the same as CSV and as JSON, with or without a byte order mark, and with either line end.
func TestReadRows(t *testing.T) {
	want := "[{2 a [10.0.0.0/8 192.0.2.7] [files] map[env:prod]}]"
	for _, text := range []string{
		"name,ip,dataset,labels\na,10.0.0.0/8;192.0.2.7,files,env=prod\n",
		"\uFEFFName , IP,dataset,labels\r\n a ,10.0.0.0/8 ; 192.0.2.7,files,env=prod\r\n",
		"labels,name,dataset,ip\nenv=prod,a,files,\"10.0.0.0/8;192.0.2.7\"",
		"\n" + `{"name":"a","ip":["10.0.0.0/8","192.0.2.7"],"dataset":["files"],"labels":{"env":"prod"}}`,
		"\n" + `{"name":"a","ip":"10.0.0.0/8;192.0.2.7","dataset":"files","labels":"env=prod","description":null}` + "\r\n\r\n",
	} {
		rows, mistakes, err := readRows(strings.NewReader(text), rowsNow)
		var got []string
		for _, r := range rows {
			got = append(got, fmt.Sprintf("{%d %s %v %v %v}", r.line, r.request.Name, r.request.IPRanges.Strings(), r.request.Datasets, r.request.Labels))
		}
		if err != nil || len(mistakes) > 0 || fmt.Sprint(got) != want {
			t.Errorf("readRows(%q) = %v, %v, %v, want %s", text, got, mistakes, err, want)
		}
	}
}

// Whatever a list is, each of its lines is a key or has something wrong with it, and no name is there twice.
func FuzzReadRows(f *testing.F) {
	for _, text := range []string{
		"name\na\nb\n", "name,ip\na,10.0.0.0/8;\n", "{\"name\":\"a\"}\n{}\n", "", "name\n\"a", "name,name\n", "{", "\uFEFF", "name,expires\na,1d;2d\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, mistakes, err := readRows(strings.NewReader(text), rowsNow)
		if err != nil || len(rows)+len(mistakes) == 0 {
			t.Errorf("readRows(%q) = %d rows, %d mistakes, %v", text, len(rows), len(mistakes), err)
		}
		names := map[string]bool{}
		for _, r := range rows {
			if names[r.request.Name] || r.line < 1 || r.request.Validate() != nil {
				t.Errorf("readRows(%q) has the row %d %q", text, r.line, r.request.Name)
			}
			names[r.request.Name] = true
		}
	})
}

func BenchmarkReadRows(b *testing.B) {
	var text strings.Builder
	text.WriteString("name,description,ip,dataset,expires,labels\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "web-%d,\"front, left\",10.0.0.0/8;192.0.2.7,files,90d,env=prod;team=web\n", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, mistakes, err := readRows(strings.NewReader(text.String()), rowsNow); err != nil || len(mistakes) > 0 {
			b.Fatal(mistakes, err)
		}
	}
}
