/*
 * Directories that nobody owns any more: those whose time is over, which their guard could not remove since the machine was down, and, if a
 * person asks for it, those whose worker has died. A host may come back for the latter.
 */
#include "ssh.h"

#include "owner.h"

#include <string.h>

#define LIST_MS 20000

static void reap_one(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct reap_params *p,
		     const struct ssh_place *place, const char *reason, struct reap_report *ret)
{
	cleanup_err struct err e = ERR_INIT;
	bool gone;

	if (!p->dry_run && ssh_lease_end(op, account, c, place, /* remove= */ true, &gone, &e) < 0) {
		ret->failed++;
		strv_addf(&ret->lines, "%s: %s, but it could not be removed: %s", place->dir, reason, err_text(&e));
		return;
	}
	ret->reaped++;
	strv_addf(&ret->lines, "%s: %s", place->dir, reason);
}

/* line: as ssh_script_list prints it. */
static void reap_line(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct reap_params *p, char *line,
		      struct reap_report *ret)
{
	cleanup_ssh_place struct ssh_place place = {0};
	const char *name = strsep(&line, " ");
	const char *owner = line ? strsep(&line, " ") : NULL;

	if (!line || ssh_lease_named(c, name, &place) < 0)
		return;
	if (strcmp(line, "over") == 0)
		reap_one(op, account, c, p, &place, "its time is over", ret);
	else if (p->all && owner_is_dead(owner))
		reap_one(op, account, c, p, &place, "its worker has died", ret);
	else
		ret->left++;
}

int ssh_reap(struct op *op, const struct reap_params *p, struct reap_report *ret, struct err *err)
{
	cleanup_ssh_config struct ssh_config c = {0};
	cleanup_ssh_words struct ssh_words words = {0};
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	char *line;

	if (ssh_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	struct ssh_account *account = ssh_account_find(op_state(op), &p->base, &c);
	ssh_script_list(&script, &c);
	if (ssh_session_ask(op, account, &c, &script, /* control= */ false, LIST_MS, &words, err) < 0)
		return -1;
	if (words.reply.code != 0)
		return err_set(err, ERR_REMOTE, "The workspace %s on %s cannot be entered.", c.workspace, c.host);
	for (char *rest = words.out.data; (line = strsep(&rest, "\n"));)
		reap_line(op, account, &c, p, line, ret);
	return 0;
}
