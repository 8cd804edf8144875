package httpapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// statuses is the one table from codes to HTTP statuses. A code that is not in it is a defect of the server: 500.
var statuses = map[fault.Code]int{
	fault.Internal: http.StatusInternalServerError, fault.StoreDamaged: http.StatusServiceUnavailable,
	fault.MasterKeyMissing: http.StatusServiceUnavailable, fault.MasterKeyWrong: http.StatusServiceUnavailable,
	fault.SchemaNewer: http.StatusServiceUnavailable, fault.Unsupported: http.StatusNotImplemented,

	fault.Invalid: http.StatusBadRequest, fault.NoRestriction: http.StatusBadRequest,
	fault.NotFound: http.StatusNotFound, fault.NoStore: http.StatusServiceUnavailable,
	fault.Unauthenticated: http.StatusUnauthorized, fault.Forbidden: http.StatusForbidden,

	fault.Exists: http.StatusConflict, fault.KeyPending: http.StatusConflict, fault.KeyDisabled: http.StatusConflict,
	fault.KeyExpired: http.StatusConflict, fault.KeyDeleted: http.StatusConflict, fault.RollInProgress: http.StatusConflict,
	fault.Superseded: http.StatusConflict, fault.IDConflict: http.StatusConflict, fault.StillAttached: http.StatusConflict,

	fault.OTPRequired: http.StatusForbidden, fault.OTPWrong: http.StatusForbidden, fault.OTPUsed: http.StatusForbidden,
	fault.OTPNotEnrolled: http.StatusForbidden,

	fault.Unavailable: http.StatusServiceUnavailable, fault.StoreBusy: http.StatusServiceUnavailable,
	fault.OutcomeUnknown: http.StatusServiceUnavailable,
	fault.OTPLocked:      http.StatusLocked, fault.RateLimited: http.StatusTooManyRequests,
}

func statusOf(code fault.Code) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// Failure is the body of every answer that is none: {"error":{…}}.
type Failure struct {
	Detail FailureDetail `json:"error"`
	status int
}

// FailureDetail says what is wrong, to programs by the code and to people by message and hint.
type FailureDetail struct {
	Code      fault.Code `json:"code" doc:"what went wrong, as one word"`
	Message   string     `json:"message" doc:"what went wrong, for a person"`
	Hint      *string    `json:"hint" doc:"the next step, where there is one"`
	RequestID string     `json:"request_id" doc:"finds the request in the server's logs"`
	Retryable bool       `json:"retryable" doc:"the same request may succeed later"`
}

// NewFailure words an error for the other end. What no code explains is not told: it goes to the server's log. A message
// may repeat a name that somebody gave; if that was a secret in the wrong place, it does not come back.
func NewFailure(err error, requestID string) *Failure {
	f := fault.From(err)
	if f == nil || f.Code == fault.Internal {
		f = fault.New(fault.Internal, "internal error").WithHint("the server's log has it under the request id")
	}
	d := FailureDetail{Code: f.Code, Message: credential.MaskTokens(f.Message), RequestID: requestID, Retryable: f.Code.Retryable()}
	if f.Hint != "" {
		hint := credential.MaskTokens(f.Hint)
		d.Hint = &hint
	}
	return &Failure{Detail: d, status: statusOf(f.Code)}
}

// Error makes a Failure an error, which is how the router takes it.
func (f *Failure) Error() string { return f.Detail.Message }

// GetStatus is the HTTP status of the failure.
func (f *Failure) GetStatus() int { return f.status }

// WithStatus gives the failure another HTTP status than its code has.
func (f *Failure) WithStatus(status int) *Failure {
	f.status = status
	return f
}

// GetHeaders are the headers that belong to the status (RFC 6750 section 3, RFC 6585 section 4).
func (f *Failure) GetHeaders() http.Header {
	switch f.status {
	case http.StatusUnauthorized:
		return http.Header{"Www-Authenticate": {"Bearer"}}
	case http.StatusTooManyRequests:
		return http.Header{"Retry-After": {strconv.Itoa(int(access.FailureEvery.Seconds()))}}
	}
	return nil
}

// Write answers a request with the failure.
func (f *Failure) Write(w http.ResponseWriter) {
	body, err := json.Marshal(f)
	if err != nil {
		body = []byte(`{"error":{"code":"internal","message":"internal error","hint":null,"request_id":"","retryable":false}}`)
	}
	w.Header().Set("Content-Type", jsonType)
	maps.Copy(w.Header(), f.GetHeaders())
	w.WriteHeader(f.status)
	_, _ = w.Write(append(body, '\n'))
}

// fault makes the failure an error again, as the Service on the other end returned it.
func (d FailureDetail) fault() *fault.Error {
	f := fault.New(d.Code, "%s", d.Message)
	if d.Hint != nil {
		f.Hint = *d.Hint
	}
	f.RequestID = d.RequestID
	return f
}
