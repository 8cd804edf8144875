// Package httpapi carries keys.Service over HTTP: a server that offers a Service, and a client that is one.
//
// Both ends are made from the same table: an operation names its method, path and permission once, and the types of what
// goes over the wire; the server registers it, the client calls it. Codes of failures become HTTP statuses in one place
// and codes again in the same one. The package listens on nothing and opens no store; addresses, request ids and limits
// of connections are those of the server it stands in.
package httpapi

// The API's number: clients and servers of the same number understand each other. Fields and routes are added under the
// same number; anything else is a new one.
const apiNumber = "1"

// The headers that tell who is talking.
const (
	headerAPI       = "Keyctl-Api"     // apiNumber, of every answer
	headerVersion   = "Keyctl-Version" // of the program, of requests and answers
	headerRequestID = "Request-Id"     // of every answer
)

// MaxBody is the size of the largest request body, in bytes (R17).
const MaxBody = 64 << 10

// maxAnswer bounds what the client reads of an answer: the largest page of a list.
const maxAnswer = 64 << 20

// jsonType is the one content type there is.
const jsonType = "application/json"
