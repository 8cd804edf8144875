package httpapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyctl/internal/httpapi"
)

// TestOpenAPI looks at the description of the API: every route of the table is in it and nothing else, under an id of its
// own, with a schema for each answer and for what can be wrong, and a token before everything.
func TestOpenAPI(t *testing.T) {
	server := httpapi.NewServer(httpapi.ServerOptions{})
	d := describe(t, server)
	if d.OpenAPI != "3.1.0" {
		t.Errorf("it is of version %q", d.OpenAPI)
	}
	operations, ids := 0, map[string]bool{}
	tags := map[string]bool{}
	for _, tag := range d.Tags {
		if tags[tag.Name] || tag.Description == "" {
			t.Errorf("the tag %q is there twice or not described", tag.Name)
		}
		tags[tag.Name] = true
	}
	used := map[string]bool{}
	for path, methods := range d.Paths {
		for method, op := range methods {
			operations++
			name := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s has the id %q, which is empty or another's", name, op.OperationID)
			}
			ids[op.OperationID] = true
			if op.Summary == "" || len(op.Tags) != 1 || !tags[op.Tags[0]] {
				t.Errorf("%s has the summary %q and the tags %q", name, op.Summary, op.Tags)
			} else {
				used[op.Tags[0]] = true
			}
			if len(op.Security) != 1 || op.Security[0]["token"] == nil {
				t.Errorf("%s wants %v, not a token", name, op.Security)
			}
			for _, status := range []string{"200", "401", "403", "default"} {
				answer, ok := op.Responses[status]
				if !ok || answer.Description == "" || answer.Content["application/json"].Schema == nil {
					t.Errorf("%s does not describe its answer %s", name, status)
				} else if ref := answer.Content["application/json"].Schema.Ref; status != "200" && ref != "#/components/schemas/Failure" {
					t.Errorf("%s answers %s with %q, want a Failure", name, status, ref)
				}
			}
			for _, p := range op.Parameters {
				if p.In == "path" && (!p.Required || !strings.Contains(path, "{"+p.Name+"}")) || p.In != "path" && p.In != "query" {
					t.Errorf("%s has the parameter %+v", name, p)
				}
			}
			if strings.Count(path, "{") != len(slices.DeleteFunc(slices.Clone(op.Parameters), func(p parameter) bool { return p.In != "path" })) {
				t.Errorf("%s does not describe each part of its path", name)
			}
		}
	}
	routes := httpapi.Routes()
	for _, r := range routes {
		if op, ok := d.Paths[r.Path][strings.ToLower(r.Method)]; !ok || op.OperationID != r.ID {
			t.Errorf("the route %s %s %s is not described", r.ID, r.Method, r.Path)
		}
	}
	if operations != len(routes) {
		t.Errorf("%d operations are described, want %d", operations, len(routes))
	}
	for tag := range tags {
		if !used[tag] {
			t.Errorf("nothing has the tag %q", tag)
		}
	}

	text, err := server.Description()
	if err != nil {
		t.Fatal(err)
	}
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	referred := map[string]bool{}
	eachRef(whole, func(ref string) {
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if _, known := d.Components.Schemas[name]; !ok || !known {
			t.Errorf("%q leads nowhere", ref)
		}
		referred[name] = true
	})
	for name, s := range d.Components.Schemas {
		if !referred[name] {
			t.Errorf("nothing refers to the schema %q", name)
		}
		if s.typed() == "object" && s.AdditionalProperties != false {
			t.Errorf("the schema %q takes unknown fields", name)
		}
	}
	if again, err := httpapi.NewServer(httpapi.ServerOptions{}).Description(); err != nil || string(again) != string(text) {
		t.Errorf("the description is another one each time: %v", err)
	}
}

// eachRef calls visit with every reference in a document.
func eachRef(v any, visit func(ref string)) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			visit(ref)
		}
		for _, inner := range v {
			eachRef(inner, visit)
		}
	case []any:
		for _, inner := range v {
			eachRef(inner, visit)
		}
	}
}

// TestAnswersFitOpenAPI asks for every route as the owner, in every way of the matrix, and holds each answer against the
// schema that is described for it.
func TestAnswersFitOpenAPI(t *testing.T) {
	oneByOne(t)
	m := newTemplate(t)
	others := otherSituations(m)
	checked := 0
	for _, r := range httpapi.Routes() {
		w := m.copy(t)
		d := describe(t, w.server)
		responses := d.Paths[r.Path][strings.ToLower(r.Method)].Responses
		for _, s := range append(aboutKeys(m, r), others[r.ID]...) {
			if s.path == itself {
				s.path = m.ids["alex"]
			}
			c := cell{m, t, 'o', true}
			var body []byte
			if s.body != nil {
				body, _ = json.Marshal(s.body(c))
			}
			got := send(t, w, r, s, body, m.tokens["alex"].Reveal())
			response, ok := responses[strconv.Itoa(got.status)]
			if !ok {
				response = responses["default"]
			}
			var answer any
			if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
				t.Fatal(err)
			}
			for _, problem := range d.fits("answer", response.Content["application/json"].Schema, answer) {
				t.Errorf("%s %s is answered %d: %s", r.ID, s.name, got.status, problem)
			}
			checked++
		}
	}
	t.Logf("%d answers", checked)
}

// fits says in what a value does not fit a schema.
func (d description) fits(place string, s *schema, v any) (problems []string) {
	s = d.resolve(s)
	for _, one := range s.OneOf {
		if problems = d.fits(place, one, v); len(problems) == 0 {
			break
		}
	}
	is := ""
	switch v := v.(type) {
	case nil:
		is = "null"
	case bool:
		is = "boolean"
	case float64:
		if is = "number"; v == float64(int64(v)) {
			is = "integer"
		}
	case string:
		is = "string"
		if _, err := time.Parse(time.RFC3339Nano, v); s.Format == "date-time" && (err != nil || !strings.HasSuffix(v, "Z")) {
			problems = append(problems, place+" is no time in UTC: "+v)
		}
	case []any:
		is = "array"
		for i, item := range v {
			if s.Items != nil {
				problems = append(problems, d.fits(place+"["+strconv.Itoa(i)+"]", s.Items, item)...)
			}
		}
	case map[string]any:
		is = "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				problems = append(problems, place+" has no "+name)
			}
		}
		for name, inner := range v {
			if field, ok := s.Properties[name]; ok {
				problems = append(problems, d.fits(place+"."+name, field, inner)...)
			} else if s.AdditionalProperties == false {
				problems = append(problems, place+" has the field "+name+", which is not described")
			}
		}
	}
	types, several := s.Type.([]any)
	if !several {
		types = []any{s.Type}
	}
	if s.Type != nil && !slices.Contains(types, any(is)) && !(is == "integer" && slices.Contains(types, any("number"))) {
		problems = append(problems, fmt.Sprintf("%s is %s, want %v", place, is, types))
	}
	return problems
}
