package httpapi

import (
	"context"
	"net/http"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

var whoami = define("whoami", http.MethodGet, "/v1/whoami", access.SelfRead, reads, "Show who the token lets in",
	func(ctx context.Context, s keys.Service, _ *none) (keys.Identity, error) { return s.Whoami(ctx) })

// Whoami implements keys.Team.
func (c *Client) Whoami(ctx context.Context) (keys.Identity, error) { return whoami.on(ctx, c, none{}) }

// OperatorPath is the operator that a path names.
type OperatorPath struct {
	Operator string `path:"operator" doc:"its name"`
}

var operatorsShow = define("operators.show", http.MethodGet, "/v1/operators/{operator}", access.OperatorsRead, reads, "Show an operator",
	func(ctx context.Context, s keys.Service, in *OperatorPath) (keys.OperatorView, error) {
		return s.Operator(ctx, in.Operator)
	})

// Operator implements keys.Team.
func (c *Client) Operator(ctx context.Context, name string) (keys.OperatorView, error) {
	return operatorsShow.on(ctx, c, OperatorPath{name})
}

// all is a list that is not paged.
type all[T any] struct {
	Items []T `json:"items"`
}

var operatorsList = define("operators.list", http.MethodGet, "/v1/operators", access.OperatorsRead, reads, "List operators",
	func(ctx context.Context, s keys.Service, _ *none) (all[keys.OperatorView], error) {
		items, err := s.Operators(ctx)
		return all[keys.OperatorView]{items}, err
	})

// Operators implements keys.Team.
func (c *Client) Operators(ctx context.Context) ([]keys.OperatorView, error) {
	out, err := operatorsList.on(ctx, c, none{})
	return out.Items, err
}

type newOperatorInput struct{ Body newOperatorBody }

var operatorsCreate = define("operators.create", http.MethodPost, "/v1/operators", access.OperatorsWrite, counts, "Create an operator",
	func(ctx context.Context, s keys.Service, in *newOperatorInput) (keys.OperatorView, error) {
		return s.CreateOperator(ctx, keys.NewOperator(in.Body))
	})

// CreateOperator implements keys.Team.
func (c *Client) CreateOperator(ctx context.Context, request keys.NewOperator) (keys.OperatorView, error) {
	return operatorsCreate.on(ctx, c, newOperatorInput{newOperatorBody(request)})
}

type roleInput struct {
	OperatorPath
	Body struct {
		Role access.Role `json:"role" doc:"owner, admin, ci, auditor or verifier"`
		Code string      `json:"code,omitempty" doc:"an authenticator code, for an owner"`
	}
}

var operatorsEdit = define("operators.edit", http.MethodPatch, "/v1/operators/{operator}", access.OperatorsWrite, counts, "Give an operator another role",
	func(ctx context.Context, s keys.Service, in *roleInput) (keys.OperatorView, error) {
		return s.SetRole(ctx, in.Operator, in.Body.Role, in.Body.Code)
	})

// SetRole implements keys.Team.
func (c *Client) SetRole(ctx context.Context, name string, role access.Role, code string) (keys.OperatorView, error) {
	in := roleInput{OperatorPath: OperatorPath{name}}
	in.Body.Role, in.Body.Code = role, code
	return operatorsEdit.on(ctx, c, in)
}

var operatorsDisable = define("operators.disable", http.MethodPost, "/v1/operators/{operator}/disable", access.OperatorsWrite, harmless, "Keep an operator out, at once",
	func(ctx context.Context, s keys.Service, in *OperatorPath) (keys.OperatorView, error) {
		return s.DisableOperator(ctx, in.Operator)
	})

// DisableOperator implements keys.Team.
func (c *Client) DisableOperator(ctx context.Context, name string) (keys.OperatorView, error) {
	return operatorsDisable.on(ctx, c, OperatorPath{name})
}

var operatorsEnable = define("operators.enable", http.MethodPost, "/v1/operators/{operator}/enable", access.OperatorsWrite, counts, "Let a disabled operator in again",
	func(ctx context.Context, s keys.Service, in *OperatorPath) (keys.OperatorView, error) {
		return s.EnableOperator(ctx, in.Operator)
	})

// EnableOperator implements keys.Team.
func (c *Client) EnableOperator(ctx context.Context, name string) (keys.OperatorView, error) {
	return operatorsEnable.on(ctx, c, OperatorPath{name})
}

// A name is given once, so that a repeated delete ends the same operator.
var operatorsDelete = define("operators.delete", http.MethodDelete, "/v1/operators/{operator}", access.OperatorsWrite, harmless, "Delete an operator for good",
	func(ctx context.Context, s keys.Service, in *OperatorPath) (keys.OperatorView, error) {
		return s.DeleteOperator(ctx, in.Operator)
	})

// DeleteOperator implements keys.Team.
func (c *Client) DeleteOperator(ctx context.Context, name string) (keys.OperatorView, error) {
	return operatorsDelete.on(ctx, c, OperatorPath{name})
}

type operatorOTPInput struct {
	OperatorPath
	Body codeBody
}

var operatorsResetOTP = define("operators.reset-otp", http.MethodPost, "/v1/operators/{operator}/otp/reset", access.OperatorsWrite, counts,
	"Remove an operator's second factor",
	func(ctx context.Context, s keys.Service, in *operatorOTPInput) (nothing, error) {
		return nothing{}, s.ResetOTP(ctx, keys.OTPAuthority{Operator: in.Operator, Code: in.Body.Code})
	})

type tokensQuery struct {
	All bool `query:"all" doc:"also expired and revoked ones"`
}

var tokensList = define("tokens.list", http.MethodGet, "/v1/tokens", access.TokensRead, reads, "List tokens",
	func(ctx context.Context, s keys.Service, in *tokensQuery) (all[keys.TokenView], error) {
		items, err := s.Tokens(ctx, in.All)
		return all[keys.TokenView]{items}, err
	})

// Tokens implements keys.Team.
func (c *Client) Tokens(ctx context.Context, every bool) ([]keys.TokenView, error) {
	out, err := tokensList.on(ctx, c, tokensQuery{every})
	return out.Items, err
}

type newTokenInput struct{ Body newTokenBody }

var tokensCreate = define("tokens.create", http.MethodPost, "/v1/tokens", access.TokensWrite, harmless, "Make a token that the caller drew",
	func(ctx context.Context, s keys.Service, in *newTokenInput) (keys.TokenView, error) {
		return s.CreateToken(ctx, keys.NewToken{
			Token: credential.NewSecret(in.Body.Token), Operator: in.Body.Operator, Description: in.Body.Description,
			Datasets: in.Body.Datasets, ExpiresAt: orZero(in.Body.ExpiresAt),
		})
	})

// CreateToken implements keys.Team.
func (c *Client) CreateToken(ctx context.Context, request keys.NewToken) (keys.TokenView, error) {
	return tokensCreate.on(ctx, c, newTokenInput{newTokenBody{
		Token: request.Token.Reveal(), Operator: request.Operator, Description: request.Description, Datasets: request.Datasets,
		ExpiresAt: optional(request.ExpiresAt),
	}})
}

type tokenPath struct {
	Token string `path:"token" doc:"its id, which is not secret"`
}

var tokensRevoke = define("tokens.revoke", http.MethodPost, "/v1/tokens/{token}/revoke", access.TokensRevoke, harmless, "End a token, at once",
	func(ctx context.Context, s keys.Service, in *tokenPath) (keys.TokenView, error) {
		return s.RevokeToken(ctx, in.Token)
	})

// RevokeToken implements keys.Team.
func (c *Client) RevokeToken(ctx context.Context, id string) (keys.TokenView, error) {
	return tokensRevoke.on(ctx, c, tokenPath{id})
}

var otpStatus = define("otp.status", http.MethodGet, "/v1/otp", access.OTPOwn, reads, "Tell about one's second factor",
	func(ctx context.Context, s keys.Service, _ *none) (keys.OTPStatus, error) { return s.OTPStatus(ctx) })

// OTPStatus implements keys.Service.
func (c *Client) OTPStatus(ctx context.Context) (keys.OTPStatus, error) {
	return otpStatus.on(ctx, c, none{})
}

// enrollmentBody is the seed of a new second factor, shown once.
type enrollmentBody struct {
	Secret string `json:"secret"`
	URI    string `json:"uri"`
}

// An enrolment that is begun again gets another seed, and the one whose answer was lost is worth nothing.
var otpEnroll = define("otp.enroll", http.MethodPost, "/v1/otp/enroll", access.OTPOwn, harmless, "Begin an enrolment",
	func(ctx context.Context, s keys.Service, _ *none) (enrollmentBody, error) {
		e, err := s.EnrollOTP(ctx)
		return enrollmentBody{e.Secret.Reveal(), e.URI.Reveal()}, err
	})

// EnrollOTP implements keys.Service.
func (c *Client) EnrollOTP(ctx context.Context) (keys.Enrollment, error) {
	out, err := otpEnroll.on(ctx, c, none{})
	return keys.Enrollment{Secret: credential.NewSecret(out.Secret), URI: credential.NewSecret(out.URI)}, err
}

type codeInput struct{ Body codeBody }

// recoveryBody are recovery codes, shown once.
type recoveryBody struct {
	Codes []string `json:"recovery_codes"`
}

var otpConfirm = define("otp.confirm", http.MethodPost, "/v1/otp/confirm", access.OTPOwn, counts, "Complete an enrolment with a first code",
	func(ctx context.Context, s keys.Service, in *codeInput) (recoveryBody, error) {
		codes, err := s.ConfirmOTP(ctx, in.Body.Code)
		return recoveryBody{secretTexts(codes)}, err
	})

// ConfirmOTP implements keys.Service.
func (c *Client) ConfirmOTP(ctx context.Context, code string) ([]credential.Secret, error) {
	return recovered(otpConfirm.on(ctx, c, codeInput{codeBody{code}}))
}

// recovered makes secrets of recovery codes.
func recovered(out recoveryBody, err error) ([]credential.Secret, error) {
	if err != nil {
		return nil, err
	}
	return secretsOf(out.Codes), nil
}

type resetInput struct {
	Body struct {
		Code         string `json:"code,omitempty" doc:"an authenticator code"`
		RecoveryCode string `json:"recovery_code,omitempty" doc:"or a recovery code"`
	}
}

var otpReset = define("otp.reset", http.MethodPost, "/v1/otp/reset", access.OTPOwn, counts, "Remove one's second factor",
	func(ctx context.Context, s keys.Service, in *resetInput) (nothing, error) {
		return nothing{}, s.ResetOTP(ctx, keys.OTPAuthority{Code: in.Body.Code, RecoveryCode: credential.NewSecret(in.Body.RecoveryCode)})
	})

// ResetOTP implements keys.Service.
func (c *Client) ResetOTP(ctx context.Context, authority keys.OTPAuthority) error {
	switch {
	case authority.BreakGlass:
		return fault.New(fault.Forbidden, "only who owns the store and its master key resets a second factor without a code").
			WithHint("give a recovery code, or run the command on the server's machine")
	case authority.Operator != "" && !authority.RecoveryCode.IsZero():
		return fault.New(fault.Invalid, "a recovery code resets one's own second factor only").
			WithHint("give an authenticator code of your own")
	case authority.Operator != "":
		_, err := operatorsResetOTP.on(ctx, c, operatorOTPInput{OperatorPath{authority.Operator}, codeBody{authority.Code}})
		return err
	}
	var in resetInput
	in.Body.Code, in.Body.RecoveryCode = authority.Code, authority.RecoveryCode.Reveal()
	_, err := otpReset.on(ctx, c, in)
	return err
}

var otpRecoveryCodes = define("otp.recovery-codes", http.MethodPost, "/v1/otp/recovery-codes", access.OTPOwn, counts, "Replace the recovery codes",
	func(ctx context.Context, s keys.Service, in *codeInput) (recoveryBody, error) {
		codes, err := s.NewRecoveryCodes(ctx, in.Body.Code)
		return recoveryBody{secretTexts(codes)}, err
	})

// NewRecoveryCodes implements keys.Service.
func (c *Client) NewRecoveryCodes(ctx context.Context, code string) ([]credential.Secret, error) {
	return recovered(otpRecoveryCodes.on(ctx, c, codeInput{codeBody{code}}))
}

var auditHead = define("audit.head", http.MethodGet, "/v1/audit/head", access.AuditRead, reads, "Show the end of the audit log",
	func(ctx context.Context, s keys.Service, _ *none) (keys.AuditHeadView, error) {
		return s.AuditHead(ctx)
	})

// AuditHead implements keys.Service.
func (c *Client) AuditHead(ctx context.Context) (keys.AuditHeadView, error) {
	return auditHead.on(ctx, c, none{})
}

type auditQuery struct {
	Since   string `query:"since" doc:"RFC 3339"`
	Until   string `query:"until" doc:"RFC 3339; records at this instant are left out"`
	Action  string `query:"action" doc:"exact, or a beginning that ends in a dot"`
	Object  string `query:"object" doc:"a name or an id"`
	Actor   string `query:"actor" doc:"a name or an id"`
	Outcome string `query:"outcome" doc:"ok, noop or refused"`
	PageQuery
}

var auditList = define("audit.list", http.MethodGet, "/v1/audit/records", access.AuditRead, reads, "List records of the audit log",
	func(ctx context.Context, s keys.Service, in *auditQuery) (keys.Page[recordBody], error) {
		f := keys.AuditFilter{Action: in.Action, Object: in.Object, Actor: in.Actor, Outcome: in.Outcome, Cursor: in.Cursor, Limit: in.Limit}
		var err error
		if f.Since, err = parseTime("since", in.Since); err != nil {
			return keys.Page[recordBody]{}, err
		}
		if f.Until, err = parseTime("until", in.Until); err != nil {
			return keys.Page[recordBody]{}, err
		}
		page, err := s.AuditRecords(ctx, f)
		out := keys.Page[recordBody]{Items: make([]recordBody, len(page.Items)), NextCursor: page.NextCursor}
		for i, r := range page.Items {
			out.Items[i] = recordToWire(r)
		}
		return out, err
	})

// AuditRecords implements keys.Service.
func (c *Client) AuditRecords(ctx context.Context, f keys.AuditFilter) (keys.Page[keys.AuditRecord], error) {
	out, err := auditList.on(ctx, c, auditQuery{
		Since: timeText(f.Since), Until: timeText(f.Until), Action: f.Action, Object: f.Object, Actor: f.Actor, Outcome: f.Outcome,
		PageQuery: PageQuery{f.Cursor, f.Limit},
	})
	page := keys.Page[keys.AuditRecord]{Items: make([]keys.AuditRecord, len(out.Items)), NextCursor: out.NextCursor}
	for i, b := range out.Items {
		if page.Items[i], err = b.record(); err != nil {
			return page, c.strange("readable audit records")
		}
	}
	return page, err
}

type auditVerifyInput struct {
	Body struct {
		Expect string `json:"expect,omitempty" doc:"a value of audit head that the log must continue"`
	}
}

var auditVerify = define("audit.verify", http.MethodPost, "/v1/audit/verify", access.AuditRead, reads, "Check the whole audit log",
	func(ctx context.Context, s keys.Service, in *auditVerifyInput) (keys.AuditReport, error) {
		return s.VerifyAudit(ctx, in.Body.Expect)
	})

// VerifyAudit implements keys.Service.
func (c *Client) VerifyAudit(ctx context.Context, expect string) (keys.AuditReport, error) {
	var in auditVerifyInput
	in.Body.Expect = expect
	return auditVerify.on(ctx, c, in)
}
