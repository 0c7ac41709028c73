/*
 * wire: ssh, Connection sharing. A server takes ten sessions on a connection, and drops connections when more than ten log in at a time:
 * so an account has several connections, a few of which log in at once, and who finds no place waits.
 */
#include "ssh.h"

#include <string.h>

#define MASTERS_MAX 8
#define STARTS_MAX 4
/* Kept free on each connection for ending what the others have started. */
#define CONTROL_SESSIONS 2
/* More connections for that, where they have no room for it. */
#define CONTROL_MASTERS 2

struct waiter {
	struct list link;
	struct event event;
};

/* --- accounts --- */

struct ssh_account *ssh_account_find(struct ssh_state *state, const struct request_base *base, const struct ssh_config *c)
{
	/* Environments of a company may share what has the same credentials. */
	struct request_base owner = {.company_id = base->company_id};
	cleanup_free char *destination = ssh_destination(c);
	cleanup_free char *rest = xasprintf("%d %d %d", c->strict, (int)c->alive_seconds, (int)c->connect_seconds);
	const char *const parts[] = {destination,
				     c->private_key,
				     c->passphrase ? c->passphrase : "",
				     c->known_hosts ? c->known_hosts : "",
				     c->jump_hosts ? c->jump_hosts : "",
				     rest,
				     NULL};
	cleanup_free char *key = lease_key(&owner, "", parts);

	list_for_each(item, &state->accounts) {
		struct ssh_account *account = container_of(item, struct ssh_account, link);
		if (strcmp(account->key, key) == 0)
			return account;
	}
	struct ssh_account *account = xcalloc(1, sizeof *account);
	account->state = state;
	account->key = steal(&key);
	account->destination = steal(&destination);
	account->accepted.fd = -1;
	list_init(&account->masters);
	list_init(&account->waiters);
	list_append(&state->accounts, &account->link);
	return account;
}

void ssh_account_destroy(struct ssh_account *account)
{
	list_remove(&account->link);
	ssh_file_close(&account->accepted);
	free(account->destination);
	free(account->key);
	free(account);
}

void ssh_account_wake(struct ssh_account *account)
{
	list_for_each(item, &account->waiters)
		event_set(&container_of(item, struct waiter, link)->event);
}

void ssh_account_log_in_ended(struct ssh_account *account)
{
	account->starting--;
	/* Others may log in to that server now. */
	list_for_each(item, &account->state->accounts)
		ssh_account_wake(container_of(item, struct ssh_account, link));
}

/* Log-ins under way at the same server, whoever wants them. */
static unsigned log_ins_at(const struct ssh_account *account)
{
	unsigned count = 0;

	list_for_each(item, &account->state->accounts) {
		const struct ssh_account *other = container_of(item, struct ssh_account, link);
		if (strcmp(other->destination, account->destination) == 0)
			count += other->starting;
	}
	return count;
}

static int wait_for_change(struct ssh_account *account, struct err *err)
{
	struct waiter waiter = {0};

	list_append(&account->waiters, &waiter.link);
	int rc = event_wait(&waiter.event, err);
	list_remove(&waiter.link);
	return rc;
}

/* --- places --- */

/* What the server has refused stays refused; the config may only ask for less. */
static unsigned limit_of(const struct ssh_account *account, const struct ssh_config *c, bool control)
{
	unsigned limit = (unsigned)c->max_sessions, total = account->total_max;

	if (total == 0)
		return limit + (control ? CONTROL_SESSIONS : 0);
	if (control)
		return total;
	if (total > CONTROL_SESSIONS && total - CONTROL_SESSIONS < limit)
		return total - CONTROL_SESSIONS;
	return total > CONTROL_SESSIONS ? limit : 1;
}

/* One that has room, rather one that is ready. */
static struct ssh_master *find_room(struct ssh_account *account, unsigned limit, unsigned *ret_count)
{
	struct ssh_master *found = NULL;

	*ret_count = 0;
	list_for_each(item, &account->masters) {
		struct ssh_master *master = container_of(item, struct ssh_master, link);
		if (master->leaving || master->state == SSH_MASTER_ENDED)
			continue;
		(*ret_count)++;
		if (master->sessions < limit && (!found || (found->state == SSH_MASTER_STARTING && master->state == SSH_MASTER_READY)))
			found = master;
	}
	return found;
}

/* *ret NULL: there is none, and none may be started now. */
static int pick(struct ssh_account *account, const struct ssh_config *c, bool control, struct ssh_master **ret, struct err *err)
{
	unsigned count;

	*ret = find_room(account, limit_of(account, c, control), &count);
	if (*ret || count >= MASTERS_MAX + (control ? CONTROL_MASTERS : 0) || log_ins_at(account) >= STARTS_MAX)
		return 0;
	return ssh_master_start(account, c, ret, err);
}

static int copy_error(const struct err *from, struct err *err)
{
	return err_set(err, from->kind, "%s", err_text(from));
}

/* Waits with a place on it. 1: it has ended before it was ready. */
static int wait_until_ready(struct ssh_master *master, struct err *err)
{
	while (master->state == SSH_MASTER_STARTING) {
		if (wait_for_change(master->account, err) < 0)
			return -1;
	}
	if (master->state == SSH_MASTER_READY)
		return 0;
	/* Without a reason it was ready for a moment, and is lost: try another. */
	return master->err.kind == ERR_NONE ? 1 : copy_error(&master->err, err);
}

int ssh_master_take(struct ssh_account *account, const struct ssh_config *c, bool control, struct ssh_master **ret, struct err *err)
{
	struct ssh_master *master;

	for (;;) {
		if (account->state->stopping)
			return err_set(err, ERR_CANCELLED, "the worker is stopping");
		if (pick(account, c, control, &master, err) < 0)
			return -1;
		if (!master) {
			if (wait_for_change(account, err) < 0)
				return -1;
			continue;
		}
		master->sessions++;
		int rc = wait_until_ready(master, err);
		if (rc == 0) {
			*ret = master;
			return 0;
		}
		ssh_master_give(master);
		if (rc < 0)
			return -1;
	}
}

void ssh_master_give(struct ssh_master *master)
{
	struct ssh_account *account = master->account;

	master->sessions--;
	master->idle_since_ms = loop_now_ms();
	if (master->main_running)
		event_set(&master->changed);
	else if (master->sessions == 0)
		ssh_master_free(master);
	ssh_account_wake(account);
}

void ssh_master_drop(struct ssh_master *master)
{
	master->leaving = true;
	if (master->main_running)
		event_set(&master->changed);
}

void ssh_account_lower_limit(struct ssh_account *account, const struct ssh_master *master)
{
	/* The one that was refused is among them. */
	unsigned took = master->sessions > 1 ? master->sessions - 1 : 1;

	if (account->total_max == 0 || took < account->total_max)
		account->total_max = took;
}
