/*
 * fake-plugin: the deterministic provider. A lease is a directory on this machine, a command a child process; there is no service
 * behind it, so that the whole path from the host to a provider can be exercised anywhere.
 *
 * All state is in memory and ends with the worker (wire: fake-plugin). Leases, setup sessions and templates are looked up within
 * the company that made them: an id that another company learned of is unknown to it.
 *
 *	config.c   what the driver reads of its config
 *	root.c     the directory of a lease on the disk: made, marked as ours, removed, swept when its worker has died
 *	lease.c    acquire, resume, release, destroy, realize
 *	execute.c  one command
 *	setup.c    interactive setup sessions and templates
 *	text.c     error texts in Node's words, which the host's users know
 */
#ifndef FAKE_PLUGIN_FAKE_H
#define FAKE_PLUGIN_FAKE_H

#include "base/err.h"
#include "base/list.h"
#include "fiber.h"
#include "provider.h"

#define FAKE_PROVIDER_NAME "fake-plugin"

struct fake_state {
	struct list leases;    /* of fake_lease */
	struct list sessions;  /* of fake_session */
	struct list templates; /* of fake_template */
	struct fiber *sweeper; /* removes what dead workers left; NULL: not running */
	struct event swept;
	bool sweep_started;
	char *common_workspace; /* owned; the directory for leases that nobody knows, if we made it */
};

/* --- config.c --- */

/* Never invalid: what cannot be used takes its default. */
struct fake_config {
	json_t *image;   /* owned string */
	json_t *timeout; /* owned number, as it was given */
	bool reuse_lease;
};

void fake_config_parse(const json_t *config, struct fake_config *ret);
void fake_config_deinit(struct fake_config *c);
/* {image, timeoutMs, reuseLease}, new reference. */
json_t *fake_config_normalized(const struct fake_config *c);

#define cleanup_config cleanup(fake_config_deinit)

/* --- root.c --- */

struct fake_root {
	char *path;    /* owned */
	int marker_fd; /* holds the lock that says that the owner lives; -1: none */
};

#define FAKE_ROOT_INIT ((struct fake_root){.marker_fd = -1})

/* The directory for temporary files, as Node's os.tmpdir(): owned. */
char *fake_temp_dir(void);
/* Makes <temp>/paperclip-fake-sandbox-XXXXXX. Nothing is left on failure. */
int fake_root_make(struct fake_root *ret, struct err *err);
/* Removes the directory and all that is in it (waits). */
int fake_root_remove(const struct fake_root *root, struct err *err);
/* The memory and the lock; the directory stays. */
void fake_root_deinit(struct fake_root *root);
/* Starts to remove, in a fiber of its own, the directories of workers that were killed; once a worker, later calls do nothing. */
void fake_sweep_start(struct fake_state *state);
/* Ends it (waits). */
void fake_sweep_stop(struct fake_state *state);

/* --- lease.c --- */

int fake_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err);
int fake_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err);
int fake_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int fake_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int fake_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err);
/* Forgets the lease and removes its directory (waits). An unknown or NULL id is success. On failure the lease stays known. */
int fake_lease_remove(struct fake_state *state, const char *company, const char *id, struct err *err);
/* Removes all leases (waits), and the common workspace if it is ours and empty; what could not be removed is logged. */
void fake_lease_remove_all(struct fake_state *state);
/* Frees the memory of all; directories stay. */
void fake_lease_forget_all(struct fake_state *state);

/* --- execute.c --- */

int fake_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);

/* --- setup.c --- */

int fake_start_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int fake_get_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int fake_capture_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int fake_cancel_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int fake_delete_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
/* Frees sessions and templates. */
void fake_setup_forget_all(struct fake_state *state);

/* --- text.c --- */

/* "EEXIST: file already exists, mkdir '<path>'", ERR_SYSTEM. Returns -1. */
int fake_fs_error(struct err *err, int number, const char *call, const char *path);
/* "The <what> must be a string without null bytes. Received 'a\x00b'", ERR_INVALID. Returns -1. */
int fake_null_byte_error(struct err *err, const char *what, const char *text, size_t len);

#endif
