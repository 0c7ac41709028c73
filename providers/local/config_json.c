/* A config back to JSON: what validation answers, and what a lease remembers. */
#include "local.h"

static json_t *binds_json(const struct local_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->bind_count; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "source", c->binds[i].source, "target",
						      c->binds[i].target, "writable", c->binds[i].writable));
	return list;
}

static void set_text(json_t *object, const char *key, const char *text)
{
	if (text)
		json_object_set_new(object, key, json_string(text));
}

static void set_limit(json_t *object, const char *key, int64_t number)
{
	if (number > 0)
		json_object_set_new(object, key, json_integer((json_int_t)number));
}

static void set_view(json_t *object, const struct local_config *c)
{
	set_text(object, "rootfs", c->rootfs);
	set_text(object, "workdir", c->workdir);
	set_text(object, "network", c->host_network ? "host" : "none");
	json_object_set_new(object, "binds", binds_json(c));
}

static void set_limits(json_t *object, const struct local_config *c)
{
	set_limit(object, "memoryMb", c->memory_mb);
	set_limit(object, "maxProcesses", c->max_processes);
	set_limit(object, "cpuSeconds", c->cpu_seconds);
	if (c->cpus > 0)
		json_object_set_new(object, "cpus",
				    c->cpus == number_truncate(c->cpus) ? json_integer((json_int_t)c->cpus) : json_real(c->cpus));
}

json_t *local_config_normalized(const struct local_config *c)
{
	json_t *object = json_object();

	set_view(object, c);
	json_object_set(object, "env", c->env);
	set_limits(object, c);
	set_limit(object, "timeoutMs", c->timeout_ms);
	json_object_set_new(object, "reuseLease", json_boolean(c->reuse_lease));
	set_text(object, "stateDir", c->state_dir);
	json_object_set_new(object, "loginShell", json_boolean(c->login_shell));
	return object;
}

json_t *local_config_shape(const struct local_config *c)
{
	json_t *object = json_object();

	set_view(object, c);
	set_limits(object, c);
	return object;
}
