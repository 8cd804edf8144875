package httpapi

import (
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// describeNulls adds to the description that an object in an answer may be null: where the field is a pointer, or a list of
// pointers, and is always written. The router's library says so of texts and numbers alone.
func describeNulls(registry huma.Registry) {
	const place = "#/components/schemas/"
	for name, schema := range registry.Map() {
		t := registry.TypeFromRef(place + name)
		if t == nil || t.Kind() != reflect.Struct {
			continue
		}
		for _, field := range reflect.VisibleFields(t) {
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			described := schema.Properties[name]
			if described == nil || strings.Contains(options, "omitempty") {
				continue
			}
			kind := field.Type
			if kind.Kind() == reflect.Slice {
				kind, described = kind.Elem(), described.Items
			}
			if described != nil && described.Ref != "" && kind.Kind() == reflect.Pointer {
				*described = huma.Schema{OneOf: []*huma.Schema{{Ref: described.Ref}, {Type: "null"}}}
			}
		}
	}
}
