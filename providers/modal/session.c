#include "modal.h"

int modal_session_open(struct modal_session *s, struct op *op, const struct request_base *base, struct err *err)
{
	struct modal_state *state = op_state(op);
	struct request_base company = {.company_id = base->company_id};

	*s = (struct modal_session){.op = op, .base = base};
	if (modal_config_read(base->config, &s->config, err) < 0)
		return -1;
	op_hold_secret(op, s->config.token_id);
	op_hold_secret(op, s->config.token_secret);
	const char *const account[] = {s->config.server, s->config.token_id, s->config.token_secret, NULL};
	cleanup_free char *key = lease_key(&company, "", account);

	s->account = lease_table_pin(&state->accounts, key);
	return 0;
}

void modal_session_close(struct modal_session *s)
{
	if (s->account) {
		struct modal_state *state = op_state(s->op);

		/* An account that got a token stays; of one that did not there is nothing to keep. */
		if (s->account->token)
			lease_table_keep(&state->accounts, s->account);
		lease_table_unpin(&state->accounts, s->account);
	}
	modal_config_deinit(&s->config);
}

struct modal_lease *modal_lease_pin(struct modal_session *s, const char *lease_id)
{
	struct modal_state *state = op_state(s->op);
	const char *const account[] = {s->config.server, s->config.token_id, s->config.token_secret, NULL};
	cleanup_free char *key = lease_key(s->base, lease_id, account);
	struct modal_lease *lease = lease_table_pin(&state->leases, key);

	if (!lease->id)
		lease->id = xstrdup(lease_id);
	return lease;
}

void modal_lease_unpin(struct modal_session *s, struct modal_lease *lease)
{
	struct modal_state *state = op_state(s->op);

	lease_table_unpin(&state->leases, lease);
}
