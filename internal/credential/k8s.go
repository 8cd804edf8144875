package credential

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"keyctl/internal/fault"
)

// writeManifest writes the credential as a Kubernetes Secret whose keys are the variables that client libraries read, so
// that a pod takes it with envFrom. Validate and objectName let nothing through that YAML's double quotes would change.
func (c Credential) writeManifest(b *bytes.Buffer, profile string) {
	fmt.Fprintf(b, "apiVersion: v1\nkind: Secret\nmetadata:\n  name: %q\ntype: Opaque\nstringData:\n", objectName(profile))
	c.writeFields(b, K8s, "  %s: %q\n")
}

// objectName turns a name into a DNS subdomain (RFC 1123 section 2.1), as Kubernetes wants its objects named: lower case,
// hyphens for underscores, and no label that is empty or has a hyphen at an end. What IsName lets through begins with a
// letter or digit, so something is always left.
func objectName(name string) string {
	var labels []string
	for label := range strings.SplitSeq(strings.ReplaceAll(strings.ToLower(name), "_", "-"), ".") {
		if label = strings.Trim(label, "-"); label != "" {
			labels = append(labels, label)
		}
	}
	return strings.Join(labels, ".")
}

// manifestKind finds the line that makes a text a Secret manifest: other YAML is of no interest.
var manifestKind = regexp.MustCompile(`(?m)^kind:[ \t]+["']?Secret["']?[ \t]*(#.*)?$`)

func isManifest(text string) bool { return manifestKind.MatchString(text) }

// manifest is the part of a Secret that matters. The data stay undecoded because other objects have other things there.
type manifest struct {
	Kind       string
	Metadata   struct{ Name string }
	Data       yaml.Node
	StringData yaml.Node `yaml:"stringData"`
}

// parseManifests reads every Secret in a stream of YAML documents; other objects are passed over.
func parseManifests(text string) ([]*entry, error) {
	var entries []*entry
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var document yaml.Node
		err := d.Decode(&document)
		if err == io.EOF {
			return entries, nil
		}
		if err != nil { // whose text quotes what it found
			return nil, fault.New(fault.Invalid, "the text begins like a Kubernetes Secret and is not YAML")
		}
		var m manifest
		if document.Decode(&m) != nil || m.Kind != "Secret" {
			continue
		}
		e := &entry{format: K8s, name: m.Metadata.Name}
		e.setData(m)
		entries = append(entries, e)
	}
}

// setData takes the values of a Secret from data, in base64, and from stringData, in the clear.
func (e *entry) setData(m manifest) {
	var encoded, clear map[string]string
	if m.Data.Decode(&encoded) != nil || m.StringData.Decode(&clear) != nil {
		e.fail("the data of the Kubernetes Secret are not texts by name")
		return
	}
	for i, d := range fields {
		key := d.in(K8s)
		value, err := base64.StdEncoding.DecodeString(encoded[key])
		if err != nil {
			e.fail("%q in the data of the Kubernetes Secret is not base64", key)
		}
		e.set(i, string(value))
		e.set(i, clear[key])
	}
}
