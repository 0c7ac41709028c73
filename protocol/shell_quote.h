/*
 * shell_quote: words of a POSIX shell, and the one-line login script that several services' commands are wrapped in (wire: e2b,
 * environmentExecute; wire: daytona, environmentExecute; wire: modal).
 */
#ifndef PROTOCOL_SHELL_QUOTE_H
#define PROTOCOL_SHELL_QUOTE_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the word in single quotes, each ' inside as '"'"'. */
void shell_quote(struct buf *out, const char *word);
/* [A-Za-z_][A-Za-z0-9_]* */
bool shell_env_key_is_valid(const char *key);
/* 0, or -1 with ERR_INVALID "Invalid sandbox environment variable key: <key>" for the first bad one. env: object or NULL. */
int shell_check_env(const json_t *env, struct err *err);

/* Sources what a login shell reads: four parts joined by " && ". */
#define SHELL_LOGIN_PROFILES \
	"if [ -f /etc/profile ]; then . /etc/profile >/dev/null 2>&1 || true; fi && " \
	"if [ -f \"$HOME/.profile\" ]; then . \"$HOME/.profile\" >/dev/null 2>&1 || true; fi && " \
	"if [ -f \"$HOME/.bash_profile\" ]; then . \"$HOME/.bash_profile\" >/dev/null 2>&1 || true; " \
	"elif [ -f \"$HOME/.bashrc\" ]; then . \"$HOME/.bashrc\" >/dev/null 2>&1 || true; fi && " \
	"if [ -f \"$HOME/.zprofile\" ]; then . \"$HOME/.zprofile\" >/dev/null 2>&1 || true; fi"

struct shell_script {
	const char *setup;      /* shell text, a part of its own after the profiles; NULL: none */
	const char *cwd;        /* `cd` there; NULL or "": no cd */
	bool exec;              /* the command replaces the shell */
	const json_t *env;      /* object of strings (others are left out), or NULL; keys have been checked */
	const char *command;
	char *const *args;      /* without the command; NULL-terminated */
	const char *stdin_path; /* redirected from there; NULL: none */
};

/* Appends <profiles> && <setup> && cd '<cwd>' && exec env K='v' '<command>' '<arg>' … < '<stdin_path>', each part only if it is there. */
void shell_write_script(struct buf *out, const struct shell_script *script);

#endif
