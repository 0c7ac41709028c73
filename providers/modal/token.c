/* wire: modal, Metadata headers: the session token. */
#include "modal.h"

#include "protocol/base64.h"
#include "secret.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define EARLY_MS 300000
#define LIFE_DEFAULT_MS 1200000
#define JWT_MAX 65536

int64_t modal_unix_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t modal_jwt_expiry(const char *jwt)
{
	const char *first = strchr(jwt, '.'), *second = first ? strchr(first + 1, '.') : NULL;
	cleanup_buf struct buf text = BUF_INIT(JWT_MAX);

	if (!second || base64_decode(&text, first + 1, (size_t)(second - first - 1)) < 0)
		return -1;
	cleanup_json json_t *payload = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
	const json_t *exp = json_object_get(payload, "exp");
	double seconds = json_is_number(exp) ? json_number_value(exp) : -1;

	return seconds > 0 && seconds < 1e11 ? (int64_t)(seconds * 1000) : -1;
}

void modal_account_deinit(void *data)
{
	struct modal_account *account = data;

	secret_release(account->secret);
	str_wipe_free(account->token);
}

static void set_token(struct modal_account *account, const char *token)
{
	modal_account_deinit(account);
	account->token = token ? xstrdup(token) : NULL;
	account->secret = secret_hold(token);
}

void modal_token_drop(struct modal_account *account, const char *token)
{
	if (str_eq(account->token, token))
		set_token(account, NULL);
}

static int fetch(struct modal_session *s, enum grpc_status *status, struct err *err)
{
	struct modal_account *account = s->account;
	Modal__Empty request = MODAL__EMPTY__INIT;
	cleanup_message Modal__AuthTokenGetResponse *answer = NULL;
	struct modal_rpc rpc = {
		.name = "AuthTokenGet", .request = &request.base, .answer = &modal__auth_token_get_response__descriptor};
	struct modal_fault fault = {0};

	if (modal_control_untold(s, &rpc, &answer, &fault, err) < 0) {
		*status = fault.status;
		return -1;
	}
	if (!str_nonempty(answer->token))
		return err_set(err, ERR_PROTOCOL,
			       "Internal error: did not receive auth token from server, please contact Modal support");
	int64_t now = modal_unix_now_ms(), expires = modal_jwt_expiry(answer->token);

	set_token(account, answer->token);
	account->expires_unix_ms = expires >= 0 ? expires : now + LIFE_DEFAULT_MS;
	/* One that lives but a few minutes is used for half of them at least. */
	account->refresh_unix_ms = account->expires_unix_ms - EARLY_MS;
	if (account->refresh_unix_ms < now + (account->expires_unix_ms - now) / 2)
		account->refresh_unix_ms = now + (account->expires_unix_ms - now) / 2;
	return 0;
}

static char *copy_token(const struct modal_account *account, bool fresh, bool *ret_fresh)
{
	*ret_fresh = fresh;
	return xstrdup(account->token);
}

int modal_token_get(struct modal_session *s, char **ret, bool *ret_fresh, enum grpc_status *status, struct err *err)
{
	struct modal_account *account = s->account;
	enum grpc_status ignored;

	for (;;) {
		int64_t now = modal_unix_now_ms();
		bool good = account->token && now < account->expires_unix_ms;
		cleanup_err struct err e = ERR_INIT;

		/* While one fetches a new one, the old one is good enough for the others. */
		if (good && (now < account->refresh_unix_ms || account->gate.busy)) {
			*ret = copy_token(account, false, ret_fresh);
			return 0;
		}
		int rc = modal_gate_enter(&account->gate, &e);

		if (rc == 0)
			continue;
		if (rc < 0) {
			if (status && e.rpc_code > 0)
				*status = (enum grpc_status)e.rpc_code;
			return err_move(err, &e);
		}
		rc = fetch(s, status ? status : &ignored, &e);
		modal_gate_leave(&account->gate, rc < 0 ? &e : NULL);
		good = account->token && modal_unix_now_ms() < account->expires_unix_ms;
		if (rc < 0 && !(good && !err_is(&e, ERR_CANCELLED)))
			return err_move(err, &e);
		if (account->token) {
			*ret = copy_token(account, rc == 0, ret_fresh);
			return 0;
		}
	}
}
