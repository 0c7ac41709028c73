/* wire: ssh, Config, lease, results. A lease is a directory of its own, and a file beside it that says that it is ours. */
#include "ssh.h"

#include "base/random.h"
#include "log.h"
#include "protocol/js_value.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#define NAME_PREFIX "paperclip-"
#define UUID_LEN 36
#define ASK_MS 20000
#define UNDO_MS 8000
/* Removing what a run has left may take a while; release and destroy have to answer within the host's limit. */
#define RELEASE_MS 25000
/* For what lies between our clock's reading and the other machine's. */
#define EXPIRY_MARGIN_S 2

/* --- names --- */

static void place_set(const struct ssh_config *c, const char *name, struct ssh_place *ret)
{
	*ret = (struct ssh_place){
		.dir = xasprintf("%s/%s", c->workspace, name),
		.marker = xasprintf("%s/.%s.lease", c->workspace, name),
		.name = xstrdup(name),
	};
}

static char *id_prefix(const struct ssh_config *c)
{
	cleanup_free char *destination = ssh_destination(c);

	return xasprintf("ssh://%s%s/" NAME_PREFIX, destination, c->workspace);
}

static bool is_uuid(const char *text)
{
	for (size_t i = 0; i < UUID_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? text[i] != '-' : !isdigit((unsigned char)text[i]) && !(text[i] >= 'a' && text[i] <= 'f'))
			return false;
	}
	return text[UUID_LEN] == '\0';
}

int ssh_lease_place(const struct ssh_config *c, const char *lease_id, struct ssh_place *ret, struct err *err)
{
	cleanup_free char *prefix = id_prefix(c);

	if (!str_starts_with(lease_id, prefix) || !is_uuid(lease_id + strlen(prefix)))
		return err_set(err, ERR_INVALID,
			       "SSH lease %s is not of this environment: host, port, user or workspace path are others. Nothing was touched.",
			       lease_id);
	cleanup_free char *name = xasprintf(NAME_PREFIX "%s", lease_id + strlen(prefix));
	place_set(c, name, ret);
	return 0;
}

int ssh_lease_named(const struct ssh_config *c, const char *name, struct ssh_place *ret)
{
	if (!str_starts_with(name, NAME_PREFIX) || !is_uuid(name + strlen(NAME_PREFIX)))
		return -1;
	place_set(c, name, ret);
	return 0;
}

static char *place_id(const struct ssh_config *c, const struct ssh_place *place)
{
	cleanup_free char *destination = ssh_destination(c);

	return xasprintf("ssh://%s%s", destination, place->dir);
}

/* --- leases that have ended --- */

static char *key_of(const struct ssh_config *c, const struct request_base *base, const char *lease_id)
{
	return lease_key(base, lease_id, (const char *const[]){c->private_key, NULL});
}

static void mark(struct op *op, const struct ssh_config *c, const struct request_base *base, const char *lease_id, bool ended)
{
	struct ssh_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, lease_id);
	struct lease_entry *lease = lease_table_pin(&state->leases, key);

	if (ended)
		lease_table_end(&state->leases, lease);
	else
		lease_table_keep(&state->leases, lease);
	lease_table_unpin(&state->leases, lease);
}

int ssh_lease_check(struct op *op, const struct ssh_config *c, const struct request_base *base, const char *lease_id, struct err *err)
{
	struct ssh_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, lease_id);
	const struct lease_entry *lease = lease_table_find(&state->leases, key);

	if (lease && lease->ended)
		return err_set(err, ERR_NOT_FOUND, "SSH lease %s is no longer active.", lease_id);
	return 0;
}

/* --- what the machine says --- */

static int failed(const struct ssh_config *c, const char *what, const struct ssh_words *words, struct err *err)
{
	struct utf8_repair repair = {0};
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *where = ssh_destination(c);

	buf_append_str(&text, "");
	utf8_repair_append(&repair, words->err_out.data, words->err_out.len, &text);
	utf8_repair_finish(&repair, &text);
	cleanup_free char *clean = ssh_clean_text(text.data);
	return err_set(err, ERR_REMOTE, "%s on %s failed: %s", what, where, *clean ? clean : "no reason was given");
}

static const char *shell_of(const struct ssh_words *words)
{
	return strstr(words->out.data, "bash") ? "bash" : "sh";
}

/* --- making and ending --- */

static void undo(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct ssh_place *place)
{
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;
	bool gone;

	shield_enter(&scope, UNDO_MS);
	if (ssh_lease_end(op, account, c, place, /* remove= */ true, &gone, &err) < 0)
		op_log(op, LOG_LEVEL_WARN, NULL, "The directory %s on %s may be left: %s", place->dir, c->host, err_text(&err));
	scope_leave(&scope);
}

int ssh_lease_make(struct op *op, struct ssh_account *account, const struct ssh_config *c, int64_t seconds, struct ssh_place *ret,
		   const char **ret_shell, struct err *err)
{
	cleanup_ssh_words struct ssh_words words = {0};
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *uuid = random_uuid();
	cleanup_free char *name = xasprintf(NAME_PREFIX "%s", uuid);
	struct ssh_master *master;

	place_set(c, name, ret);
	ssh_script_acquire(&script, c, ret, account->state->owner, seconds);
	/* Without a connection nothing can have been made, and nothing has to be undone. */
	if (ssh_master_take(account, c, /* control= */ false, &master, err) < 0)
		return -1;
	ssh_master_give(master);
	if (ssh_session_ask(op, account, c, &script, /* control= */ false, ASK_MS, &words, err) < 0) {
		undo(op, account, c, ret);
		return -1;
	}
	*ret_shell = shell_of(&words);
	if (words.reply.code == 0)
		return 0;
	cleanup_free char *what = xasprintf("Making the directory %s", ret->dir);
	return failed(c, what, &words, err);
}

int ssh_lease_end(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct ssh_place *place, bool remove,
		  bool *ret_gone, struct err *err)
{
	cleanup_ssh_words struct ssh_words words = {0};
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	ssh_script_release(&script, place, remove);
	if (ssh_session_ask(op, account, c, &script, /* control= */ true, RELEASE_MS, &words, err) < 0)
		return -1;
	*ret_gone = strcmp(words.reply.word, "gone") == 0;
	if (words.reply.code == 0 || *ret_gone)
		return 0;
	if (strcmp(words.reply.word, "foreign") == 0)
		return err_set(err, ERR_CONFLICT, "%s on %s is not marked as a lease of ours (%s is missing, or it is a link): nothing was touched.",
			       place->dir, c->host, place->marker);
	if (strcmp(words.reply.word, "alive") == 0)
		return err_set(err, ERR_REMOTE, "A process of the lease %s on %s cannot be killed.", place->name, c->host);
	cleanup_free char *what = xasprintf("Removing %s", place->dir);
	return failed(c, what, &words, err);
}

/* --- acquire, resume --- */

static void answer(const struct ssh_config *c, const struct ssh_place *place, const char *shell, bool resumed, struct lease_result *ret)
{
	ret->provider_lease_id = place_id(c, place);
	ret->metadata = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:b, s:o, s:b}", "provider", SSH_NAME, "driver", SSH_NAME,
				  "host", c->host, "port", js_number_json(c->port), "username", c->username, "remoteWorkspacePath",
				  c->workspace, "remoteCwd", place->dir, "shellCommand", shell, "reuseLease", c->reuse_lease, "timeoutMs",
				  js_number_json(c->timeout_ms), "resumedLease", resumed);
}

/* Seconds from now; 0: no limit. */
static int life_of(const struct acquire_params *p, int64_t *ret, struct err *err)
{
	struct timespec now;

	*ret = 0;
	if (p->requested_expires_unix_ms < 0)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	*ret = p->requested_expires_unix_ms / 1000 - now.tv_sec - EXPIRY_MARGIN_S;
	if (*ret > 0)
		return 0;
	return err_set(err, ERR_INVALID, "requestedExpiresAt %s is in the past, or too near.", p->requested_expires_at);
}

int ssh_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_ssh_config struct ssh_config c = {0};
	cleanup_ssh_place struct ssh_place place = {0};
	const char *shell;
	int64_t seconds;

	if (life_of(p, &seconds, err) < 0 || ssh_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	struct ssh_account *account = ssh_account_find(op_state(op), &p->base, &c);
	if (ssh_lease_make(op, account, &c, seconds, &place, &shell, err) < 0)
		return -1;
	answer(&c, &place, shell, /* resumed= */ false, ret);
	if (seconds > 0)
		ret->expires_at = xstrdup(p->requested_expires_at);
	mark(op, &c, &p->base, ret->provider_lease_id, /* ended= */ false);
	return 0;
}

static int look(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct ssh_place *place,
		struct ssh_words *words, struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	ssh_script_look(&script, place);
	buf_append_str(&script, "cd \"$d\" || { e 1; exit 0; }\ncommand -v bash >/dev/null 2>&1 && echo bash || echo sh\ne 0\n");
	return ssh_session_ask(op, account, c, &script, /* control= */ false, ASK_MS, words, err);
}

int ssh_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_ssh_config struct ssh_config c = {0};
	cleanup_ssh_place struct ssh_place place = {0};
	cleanup_ssh_words struct ssh_words words = {0};

	if (!str_nonempty(p->provider_lease_id))
		return err_set(err, ERR_INVALID, "providerLeaseId is missing: there is no lease to resume");
	if (ssh_config_read(op, p->base.config, &c, err) < 0 || ssh_lease_place(&c, p->provider_lease_id, &place, err) < 0)
		return -1;
	struct ssh_account *account = ssh_account_find(op_state(op), &p->base, &c);
	if (look(op, account, &c, &place, &words, err) < 0)
		return -1;
	bool foreign = strcmp(words.reply.word, "foreign") == 0;

	if (foreign || strcmp(words.reply.word, "gone") == 0) {
		ret->metadata = json_pack("{s:b, s:s}", "expired", true, "reason",
					  foreign ? "the directory is not marked as a lease" : "the directory is not there");
		return 0;
	}
	if (words.reply.code != 0)
		return failed(&c, "Looking at the lease's directory", &words, err);
	answer(&c, &place, shell_of(&words), /* resumed= */ true, ret);
	mark(op, &c, &p->base, ret->provider_lease_id, /* ended= */ false);
	return 0;
}

/* --- release, destroy --- */

static int end(struct op *op, const struct lease_params *p, bool always_remove, enum lease_end *ret, struct err *err)
{
	cleanup_ssh_config struct ssh_config c = {0};
	cleanup_ssh_place struct ssh_place place = {0};
	bool gone;

	if (!str_nonempty(p->provider_lease_id))
		return 0;
	if (ssh_config_read(op, p->base.config, &c, err) < 0 || ssh_lease_place(&c, p->provider_lease_id, &place, err) < 0)
		return -1;
	bool remove = always_remove || !c.reuse_lease;

	mark(op, &c, &p->base, p->provider_lease_id, /* ended= */ true);
	struct ssh_account *account = ssh_account_find(op_state(op), &p->base, &c);
	if (ssh_lease_end(op, account, &c, &place, remove, &gone, err) < 0)
		return -1;
	*ret = remove || gone ? LEASE_DESTROYED : LEASE_STOPPED;
	return 0;
}

int ssh_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end(op, p, /* always_remove= */ false, ret, err);
}

int ssh_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end(op, p, /* always_remove= */ true, ret, err);
}

/* --- realize --- */

int ssh_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	cleanup_ssh_config struct ssh_config c = {0};
	cleanup_ssh_place struct ssh_place place = {0};
	cleanup_ssh_words struct ssh_words words = {0};

	if (!str_nonempty(p->lease.provider_lease_id))
		return err_set(err, ERR_INVALID, "The lease has no providerLeaseId: there is no workspace to prepare.");
	if (ssh_config_read(op, p->base.config, &c, err) < 0 ||
	    ssh_lease_check(op, &c, &p->base, p->lease.provider_lease_id, err) < 0 ||
	    ssh_lease_place(&c, p->lease.provider_lease_id, &place, err) < 0)
		return -1;
	struct ssh_account *account = ssh_account_find(op_state(op), &p->base, &c);
	if (look(op, account, &c, &place, &words, err) < 0)
		return -1;
	if (*words.reply.word)
		return err_set(err, ERR_NOT_FOUND, "The lease's directory %s on %s is not there any more.", place.dir, c.host);
	if (words.reply.code != 0)
		return failed(&c, "Looking at the lease's directory", &words, err);
	ret->metadata = json_pack("{s:s, s:s}", "provider", SSH_NAME, "remoteCwd", place.dir);
	ret->cwd = steal(&place.dir);
	return 0;
}
