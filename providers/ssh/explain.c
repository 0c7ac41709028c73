/*
 * wire: ssh, Failure texts and what to say. The words "connection reset", "network" and "timed out" make the host resume again, so they are
 * there only where that may help.
 */
#include "ssh.h"

#include <string.h>

bool ssh_text_is_crowded(const char *text)
{
	return strstr(text, "kex_exchange_identification: ") || strstr(text, "ssh_exchange_identification: ") ||
	       strstr(text, "Exceeded MaxStartups");
}

bool ssh_text_is_refused_session(const char *text)
{
	return strstr(text, "Session open refused by peer");
}

bool ssh_text_is_unopened_session(const char *text)
{
	/* The connection that it tries then by itself comes to nothing: command.c. */
	return ssh_text_is_crowded(text) && !strstr(text, "mux_client");
}

/* A line that is only there to be seen, or that names files of ours. */
static bool is_noise(const char *line)
{
	static const char *const signs[] = {"/proc/", "psw-ssh-", "known_hosts", "to get rid of this message"};

	for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
		if (strstr(line, signs[i]))
			return true;
	}
	return !*line || *line == '@';
}

char *ssh_clean_text(const char *text)
{
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&out, "");
	while (*text) {
		size_t len = strcspn(text, "\r\n");
		cleanup_free char *line = xstrndup(text, len);
		if (!is_noise(line)) {
			if (out.len > 0)
				buf_append_char(&out, ' ');
			buf_append_str(&out, line);
		}
		text += len;
		text += strspn(text, "\r\n");
	}
	return buf_steal(&out);
}

/* "SHA256:…" of the text, or NULL. Owned. */
static char *fingerprint_of(const char *text)
{
	const char *at = strstr(text, "SHA256:");

	return at ? xstrndup(at, strcspn(at, " .\r\n")) : NULL;
}

static int explain_host_key(const char *where, const char *text, struct err *err)
{
	if (strstr(text, "HOST IDENTIFICATION HAS CHANGED")) {
		cleanup_free char *fingerprint = fingerprint_of(text);
		return err_set(err, ERR_CONFLICT,
			       "The host key of %s is not the one that is known: it shows %s. Either the machine was set up anew, and knownHosts "
			       "needs its new key, or somebody stands in between.",
			       where, fingerprint ? fingerprint : "another");
	}
	if (strstr(text, "REVOKED"))
		return err_set(err, ERR_CONFLICT, "The host key of %s is marked as revoked in knownHosts.", where);
	return err_set(err, ERR_CONFLICT,
		       "The host key of %s is not known: knownHosts has no line for that host and port (another port than 22 is written "
		       "[host]:port). The probe shows what the host offers.",
		       where);
}

struct reason {
	const char *text; /* of ssh */
	enum err_kind kind;
	const char *message; /* has one %s */
};

static const struct reason reasons[] = {
	{"Could not resolve hostname", ERR_TRANSPORT, "The host name of %s cannot be resolved."},
	{"Connection refused", ERR_TRANSPORT, "No SSH server listens at %s: connection refused."},
	{"No route to host", ERR_TRANSPORT, "There is no way to %s: no route to host on this network."},
	{"Network is unreachable", ERR_TRANSPORT, "There is no way to %s: the network is unreachable."},
	{"during banner exchange", ERR_TRANSPORT,
	 "What listens at %s does not answer as an SSH server: timed out while waiting for its banner."},
	{"Connection timed out", ERR_TRANSPORT, "The connection to %s timed out."},
	{"Operation timed out", ERR_TRANSPORT, "The connection to %s timed out."},
	{"kex_exchange_identification", ERR_TRANSPORT,
	 "The connection to %s was closed before the server said anything (connection reset): it is no SSH server, does not serve "
	 "this address, or has too many log-ins under way (MaxStartups)."},
	{"incorrect passphrase", ERR_AUTH, "The private key for %s cannot be read with privateKeyPassphrase."},
	{"error in libcrypto", ERR_AUTH, "The private key for %s cannot be read: its text is damaged or cut short."},
	{"invalid format", ERR_AUTH, "The private key for %s cannot be read: its text is damaged or cut short."},
	{"Too many authentication failures", ERR_AUTH, "%s refuses to log us in: too many authentication failures."},
	{"Permission denied", ERR_AUTH,
	 "%s refuses the key or the user (Permission denied): is the public key in the user's authorized_keys, and does the user exist?"},
	{"no matching", ERR_PROTOCOL, "%s and the worker's ssh have no algorithm in common."},
	{"No user exists for uid", ERR_SYSTEM,
	 "ssh cannot connect to %s: the user that the worker runs as has no entry in the worker machine's /etc/passwd."},
	{"Session open refused by peer", ERR_BUSY, "%s takes no further session (MaxSessions)."},
	{"administratively prohibited", ERR_AUTH, "A jump host does not forward the connection to %s (AllowTcpForwarding)."},
	{"stdio forwarding failed", ERR_TRANSPORT, "A jump host cannot reach %s."},
	{"Connection reset by peer", ERR_TRANSPORT, "The connection to %s was lost: connection reset."},
	{"Broken pipe", ERR_TRANSPORT, "The connection to %s was lost: connection reset."},
	{"closed by remote host", ERR_TRANSPORT, "%s closed the connection while it was set up (connection reset)."},
	{"not responding", ERR_TRANSPORT, "The connection to %s timed out: the server does not respond."},
};

int ssh_explain(const struct ssh_config *c, const char *text, struct err *err)
{
	cleanup_free char *where = ssh_destination(c);
	cleanup_free char *clean = ssh_clean_text(text);

	if (strstr(text, "Host key verification failed") || strstr(text, "REVOKED"))
		return explain_host_key(where, text, err);
	for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
		if (!strstr(text, reasons[i].text))
			continue;
		/* A table of formats, each with one %s. */
		cleanup_buf struct buf message = BUF_INIT(BUF_UNBOUNDED);
		const char *at = strstr(reasons[i].message, "%s");
		buf_append(&message, reasons[i].message, (size_t)(at - reasons[i].message));
		buf_append_str(&message, where);
		buf_append_str(&message, at + 2);
		return err_set(err, reasons[i].kind, "%s%s%s", message.data, *clean ? " ssh says: " : "", clean);
	}
	if (*clean)
		return err_set(err, ERR_TRANSPORT, "The connection to %s failed. ssh says: %s", where, clean);
	return err_set(err, ERR_TRANSPORT, "The connection to %s was lost (network).", where);
}
