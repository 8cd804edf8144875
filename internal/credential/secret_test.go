package credential

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// canary is a text that no test expects anywhere, in a shape that every part of it can be searched for.
const canary = "canary-test-value-0123456789"

// leaks reports the form in which b has the canary, or half of it, as it is or in hexadecimal.
func leaks(b []byte) (form string, found bool) {
	half := len(canary) / 2
	for _, part := range []string{canary[:half], canary[half:]} {
		for _, form := range []string{part, fmt.Sprintf("%x", part), fmt.Sprintf("%X", part), fmt.Sprintf("% x", part)} {
			if bytes.Contains(b, []byte(form)) {
				return form, true
			}
		}
	}
	return "", false
}

// carriers are the places of a secret in values that get printed by mistake, unexported fields among them.
func carriers() map[string]any {
	s := NewSecret(canary)
	c := Credential{SigningKey: s, CryptoAccessKey: s}
	type hidden struct{ s Secret }
	type hiddenPointer struct{ s *Secret }
	type hiddenMap struct{ m map[string]Secret }
	return map[string]any{
		"value":          s,
		"pointer":        &s,
		"slice":          []Secret{s},
		"map":            map[string]Secret{"k": s},
		"credential":     c,
		"pointer to one": &c,
		"unexported":     hidden{s},
		"pointer in it":  hiddenPointer{&s},
		"map in it":      hiddenMap{map[string]Secret{"k": s}},
		"nested":         []any{hidden{s}, &hidden{s}, struct{ c *Credential }{&c}},
		"error operand":  fmt.Errorf("with %v and %q", s, s),
	}
}

func TestR2_SecretNeverPrints(t *testing.T) {
	var formats []string
	for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "60", ".3", "060.50", "# "} {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspwyz" {
			formats = append(formats, "%"+flags+string(verb))
		}
	}
	for name, v := range carriers() {
		for _, format := range formats {
			got := fmt.Sprintf(format, v)
			if form, found := leaks([]byte(got)); found {
				t.Errorf("Sprintf(%q, %s) has %q: %s", format, name, form, got)
			}
		}
		if form, found := leaks([]byte(fmt.Sprintln(v, v) + fmt.Sprint(v))); found {
			t.Errorf("Sprint(%s) has %q", name, form)
		}
	}
}

func TestR2_SecretNeverEncodes(t *testing.T) {
	encoders := map[string]func(any) ([]byte, error){
		"json": json.Marshal,
		"yaml": yaml.Marshal,
		"xml":  xml.Marshal,
		"template": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := template.Must(template.New("").Parse(`{{.}} {{printf "%#v" .}}`)).Execute(&b, v)
			return b.Bytes(), err
		},
		"slog text": func(v any) ([]byte, error) {
			var b bytes.Buffer
			slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v, slog.Group("g", "v", v))
			return b.Bytes(), nil
		},
		"slog json": func(v any) ([]byte, error) {
			var b bytes.Buffer
			slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v, slog.Group("g", "v", v))
			return b.Bytes(), nil
		},
	}
	values := carriers()
	for name, encode := range encoders {
		for carrier, v := range values {
			// An encoder may refuse a value, as XML does maps; it must not write the secret before it does.
			got, _ := encode(v)
			if form, found := leaks(got); found {
				t.Errorf("%s of %s has %q: %s", name, carrier, form, got)
			}
		}
		got, err := encode(NewSecret(canary))
		if err != nil || !bytes.Contains(got, []byte(redacted)) {
			t.Errorf("%s of a secret = %s, %v, want %s in it", name, got, err, redacted)
		}
	}
}

// A Document is made to be marshalled, and to be masked everywhere else.
func TestR2_DocumentIsMaskedInLogs(t *testing.T) {
	d := Document{Credential: Credential{SigningKey: NewSecret(canary), CryptoAccessKey: NewSecret(canary)}}
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", d, "p", &d)
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", d, "p", &d)
	fmt.Fprintf(&b, "%v %+v %#v", d, d, &d)
	if form, found := leaks(b.Bytes()); found {
		t.Errorf("a logged document has %q: %s", form, b.String())
	}
	text, err := json.Marshal(d)
	if _, found := leaks(text); !found || err != nil {
		t.Errorf("Marshal(document) = %s, %v, want the secrets in it", text, err)
	}
}

func TestSecretReveal(t *testing.T) {
	for _, text := range []string{"", "x", canary} {
		s := NewSecret(text)
		if s.Reveal() != text || s.IsZero() != (text == "") {
			t.Errorf("NewSecret(%q) reveals %q, IsZero %v", text, s.Reveal(), s.IsZero())
		}
	}
	if zero := (Secret{}); zero.Reveal() != "" || !zero.IsZero() || !zero.Equal(NewSecret("")) {
		t.Error("the zero Secret is not the secret of the empty text")
	}
}

func TestR3_EqualComparesMACsOfEqualLength(t *testing.T) {
	texts := []string{"", "a", "b", "ab", "a\x00", canary, canary + "x", canary[1:], strings.ToUpper(canary)}
	for i, a := range texts {
		for j, b := range texts {
			if got := NewSecret(a).Equal(NewSecret(b)); got != (i == j) {
				t.Errorf("NewSecret(%q).Equal(NewSecret(%q)) = %v, want %v", a, b, got, i == j)
			}
		}
		if got := len(comparisonMAC(NewSecret(a))); got != 32 {
			t.Errorf("the MAC compared for %q has %d bytes, want 32", a, got)
		}
	}
}

// The compiler refuses == between secrets; what is left is to compare what Reveal returns, and no code here does. Equal
// itself is one expression without a branch.
func TestR3_SecretsAreComparedByEqualOnly(t *testing.T) {
	if reflect.TypeFor[Secret]().Comparable() {
		t.Error("== compiles for Secret")
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var equals []*ast.FuncDecl
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Name.Name == "Equal" {
					equals = append(equals, n)
				}
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && (isReveal(n.X) || isReveal(n.Y)) {
					t.Errorf("%s: a revealed secret is compared with %s", set.Position(n.Pos()), n.Op)
				}
			}
			return true
		})
	}
	if len(equals) != 1 {
		t.Fatalf("%d functions are called Equal, want 1", len(equals))
	}
	body := equals[0].Body.List
	if len(body) != 1 {
		t.Fatalf("Secret.Equal has %d statements, want 1", len(body))
	}
	result, ok := body[0].(*ast.ReturnStmt)
	if !ok || len(result.Results) != 1 || !isCall(result.Results[0], "hmac", "Equal") {
		t.Error("Secret.Equal does not return hmac.Equal's answer alone")
	}
}

func isReveal(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	return ok && f.Sel.Name == "Reveal"
}

func isCall(e ast.Expr, pkg, name string) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := f.X.(*ast.Ident)
	return ok && x.Name == pkg && f.Sel.Name == name
}
