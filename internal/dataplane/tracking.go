package dataplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"keyctl/internal/keys"
)

// maxEvents is how many events one report may have. As libraries write them, no more than that fit into a body.
const maxEvents = 5000

// report is the list of events that a library sends.
type report []keys.UsageEvent

// UnmarshalJSON reads one event after the other and stops after maxEvents: a small body can have very many, and they are read
// before it is known who sent them.
func (r *report) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if start, err := d.Token(); err != nil || start != json.Delim('[') {
		return err // what is no list has no events
	}
	for d.More() && len(*r) < maxEvents {
		var e event
		var other *json.UnmarshalTypeError
		if err := d.Decode(&e); errors.As(err, &other) {
			continue
		} else if err != nil {
			return err
		}
		*r = append(*r, e.read(maxEvents-len(*r))...)
	}
	return nil
}

// event is what a library tells of its use. The libraries do not agree on types: numbers come as text, and some fields not at
// all, so everything is read by hand and what cannot be read is as if it was not there.
type event struct {
	Datasets json.RawMessage `json:"datasets"`
	Type     json.RawMessage `json:"dataset_type"`
	Count    json.RawMessage `json:"count"`
	Action   json.RawMessage `json:"action"`
	Product  json.RawMessage `json:"product"`
	Version  json.RawMessage `json:"product_version"`
	FirstAt  json.RawMessage `json:"first_call_timestamp"`
	LastAt   json.RawMessage `json:"last_call_timestamp"`
}

// track answers POST /api/v3/tracking/events. Whose use it is the signature tells, not the event.
func (s *Server) track(c call) (answer, error) {
	var in struct {
		Usage report `json:"usage"`
	}
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	if err := s.Plane.Track(c.Context(), c.claim, in.Usage); err != nil {
		return answer{}, err
	}
	// A library sends everything again when there is no body, and another reads this one as an error's.
	return answer{http.StatusOK, failure{Status: http.StatusOK}}, nil
}

// read is an event as the domain knows it, once for each dataset it names, as many as there may be.
func (e event) read(most int) []keys.UsageEvent {
	count := int64(1)
	if n, err := strconv.ParseFloat(text(e.Count), 64); err == nil && !math.IsNaN(n) {
		count = int64(max(0, min(n, maxUses)))
	}
	var events []keys.UsageEvent
	if strings.TrimSpace(text(e.Datasets)) == "" && text(e.Type) == string(keys.Structured) {
		return nil // of a dataset that cannot be told; without a name only the unstructured one can
	}
	for name := range strings.SplitSeq(text(e.Datasets), ",") {
		if len(events) == most {
			break
		}
		events = append(events, keys.UsageEvent{
			Dataset: strings.TrimSpace(name), Action: keys.Action(text(e.Action)), Count: count,
			FirstAt: instant(text(e.FirstAt)), LastAt: instant(text(e.LastAt)), Product: text(e.Product), Version: text(e.Version),
		})
	}
	return events
}

// text is a JSON string's content, or another value as it is written.
func text(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) == nil {
		return s
	}
	return string(value)
}

// instant reads the forms in which libraries write a time (ISO 8601, with and without a zone); none is the zero time.
func instant(text string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999-07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// usageReport and reportedEvent are the events as Client writes them, which is how most libraries do.
type usageReport struct {
	Usage []reportedEvent `json:"usage"`
}

type reportedEvent struct {
	Datasets   string      `json:"datasets"`
	APIKey     string      `json:"api_key"`
	Count      int64       `json:"count"`
	Action     keys.Action `json:"action"`
	Product    string      `json:"product"`
	Version    string      `json:"product_version"`
	UserAgent  string      `json:"user-agent"`
	APIVersion string      `json:"api_version"`
	FirstAt    time.Time   `json:"first_call_timestamp"`
	LastAt     time.Time   `json:"last_call_timestamp"`
}
