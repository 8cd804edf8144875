package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/term"
)

// Exit statuses. They are part of keyctl's interface and never renumbered.
const (
	exitOK              = 0
	exitInternal        = 1
	exitUsage           = 2
	exitNotFound        = 3
	exitUnauthenticated = 4
	exitForbidden       = 5
	exitConflict        = 6
	exitSecondFactor    = 7
	exitNegative        = 8
	exitBatch           = 9
	exitUnavailable     = 10
	exitUndelivered     = 11
	exitLocked          = 12
	exitInterrupted     = 130
	exitBrokenPipe      = 141
)

// exits is the one table of exit statuses: what each means, and the codes that lead to it.
var exits = []struct {
	status  int
	meaning string
	codes   []fault.Code
}{
	{exitOK, "done", nil},
	{exitInternal, "unexpected, or the store is damaged or newer", []fault.Code{fault.Internal, fault.MasterKeyMissing, fault.MasterKeyWrong, fault.StoreDamaged, fault.SchemaNewer, fault.Unsupported}},
	{exitUsage, "usage or invalid input; nothing was changed", []fault.Code{fault.Invalid, fault.NoRestriction}},
	{exitNotFound, "not found", []fault.Code{fault.NotFound, fault.NoStore}},
	{exitUnauthenticated, "not authenticated", []fault.Code{fault.Unauthenticated}},
	{exitForbidden, "not allowed", []fault.Code{fault.Forbidden}},
	{exitConflict, "conflict with what is there", []fault.Code{fault.Exists, fault.KeyPending, fault.KeyDisabled, fault.KeyExpired, fault.KeyDeleted, fault.RollInProgress, fault.Superseded, fault.IDConflict, fault.StillAttached}},
	{exitSecondFactor, "an authenticator code is needed, or the one given is wrong", []fault.Code{fault.OTPRequired, fault.OTPWrong, fault.OTPUsed, fault.OTPNotEnrolled}},
	{exitNegative, "the answer is no: verify refuses, doctor found something, the audit chain is broken", nil},
	{exitBatch, "some of a batch failed", []fault.Code{fault.BatchFailed}},
	{exitUnavailable, "unavailable or timed out, or the outcome is unknown: look, then retry", []fault.Code{fault.Unavailable, fault.StoreBusy, fault.OutcomeUnknown}},
	{exitUndelivered, "a credential could not be delivered; nothing was activated", []fault.Code{fault.Undelivered}},
	{exitLocked, "locked or rate limited", []fault.Code{fault.OTPLocked, fault.RateLimited}},
	{exitInterrupted, "interrupted, or not confirmed", nil},
	{exitBrokenPipe, "the reader of the output went away (with a credential in the output it is 11)", nil},
}

// errNegative ends a command whose answer, already printed, is no.
var errNegative = errors.New("the answer is no")

// programStatus ends a command with the exit status of the program that it ran.
type programStatus int

func (s programStatus) Error() string { return fmt.Sprintf("the program ended with status %d", int(s)) }

// exitStatus maps an error to its exit status.
func exitStatus(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errNegative):
		return exitNegative
	case errors.Is(err, context.Canceled), errors.Is(err, term.ErrAborted), errors.Is(err, errDeclined):
		return exitInterrupted
	case errors.Is(err, syscall.EPIPE) && !fault.Is(err, fault.Undelivered):
		return exitBrokenPipe
	}
	code := fault.CodeOf(err)
	for _, e := range exits {
		for _, c := range e.codes {
			if c == code {
				return e.status
			}
		}
	}
	return exitInternal
}

// errorDocument is a failure as JSON, on standard error.
type errorDocument struct {
	Error struct {
		Code      fault.Code `json:"code"`
		Message   string     `json:"message"`
		Hint      *string    `json:"hint"`
		RequestID *string    `json:"request_id"` // null for a local store
		Retryable bool       `json:"retryable"`
	} `json:"error"`
}

// report tells the user about a failure and returns the exit status. Whatever a message repeats, no secret is in it.
func report(sys *System, asJSON bool, err error) int {
	var program programStatus
	if errors.As(err, &program) {
		return int(program)
	}
	status := exitStatus(err)
	switch status {
	case exitOK, exitNegative, exitBrokenPipe:
		return status
	case exitInterrupted:
		word := "interrupted"
		if errors.Is(err, errDeclined) {
			word = errDeclined.Error()
		}
		fmt.Fprintln(sys.Stderr, "keyctl: "+word)
		return status
	}
	message, hint, requestID := err.Error(), "", ""
	if f := fault.From(err); f != nil {
		hint, requestID = f.Hint, f.RequestID
	}
	message, hint = credential.MaskTokens(message), credential.MaskTokens(hint)
	if asJSON {
		var doc errorDocument
		doc.Error.Code, doc.Error.Message = fault.CodeOf(err), message
		doc.Error.Retryable = doc.Error.Code.Retryable()
		if hint != "" {
			doc.Error.Hint = &hint
		}
		if requestID != "" {
			doc.Error.RequestID = &requestID
		}
		encoder := json.NewEncoder(sys.Stderr)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(doc)
		return status
	}
	fmt.Fprintf(sys.Stderr, "keyctl: error: %s\n", term.Clean(message))
	if hint != "" {
		fmt.Fprintf(sys.Stderr, "keyctl: hint: %s\n", term.Clean(hint))
	}
	return status
}
