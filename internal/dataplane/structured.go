package dataplane

import (
	"net/http"
	"strconv"
	"strings"

	"keyctl/internal/fault"
	"keyctl/internal/structured"
)

// The parts of a query. papi, the access key id, comes as well and is not looked at: who asks the signature tells, and one
// library does not encode what it puts into a query.
const (
	queryName   = "ffs_name"
	queryNumber = "key_number"
)

// record answers GET /api/v0/ffs.
func (s *Server) record(c call) (answer, error) {
	r, err := s.Plane.DatasetRecord(c.Context(), c.claim, c.URL.Query().Get(queryName))
	return answer{http.StatusOK, r}, err
}

// structuredKey is a data key. Its number is text here: two libraries take nothing else.
type structuredKey struct {
	PrivateKey string `json:"encrypted_private_key"`
	Number     string `json:"key_number"`
	Wrapped    []byte `json:"wrapped_data_key"`
}

// structuredKey answers GET /api/v0/fpe/key.
func (s *Server) structuredKey(c call) (answer, error) {
	query := c.URL.Query()
	var number *int
	if text := query.Get(queryNumber); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return answer{}, fault.New(fault.Invalid, "the key number is none")
		}
		number = &n
	}
	k, err := s.Plane.StructuredKey(c.Context(), c.claim, query.Get(queryName), number)
	return answer{http.StatusOK, structuredKey{string(k.PrivateKeyPEM), strconv.Itoa(k.Number), k.Wrapped}}, err
}

// structuredKeys are all data keys of a dataset. Here the current one's number is a number.
type structuredKeys struct {
	Record     structured.Record `json:"ffs"`
	PrivateKey string            `json:"encrypted_private_key"`
	Current    int               `json:"current_key_number"`
	Keys       [][]byte          `json:"keys"`
}

// structuredKeys answers GET /api/v0/fpe/def_keys.
func (s *Server) structuredKeys(c call) (answer, error) {
	var names []string
	if text := c.URL.Query().Get(queryName); text != "" {
		names = strings.Split(text, ",")
	}
	all, err := s.Plane.StructuredKeys(c.Context(), c.claim, names)
	if err != nil {
		return answer{}, err
	}
	body := make(map[string]structuredKeys, len(all))
	for _, k := range all {
		body[k.Record.Name] = structuredKeys{k.Record, string(k.PrivateKeyPEM), k.Current, k.Wrapped}
	}
	return answer{http.StatusOK, body}, nil
}
