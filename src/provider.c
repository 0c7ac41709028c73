#include "provider.h"

void validation_deinit(struct validation *v)
{
	strv_deinit(&v->errors);
	strv_deinit(&v->warnings);
	json_decref(v->normalized);
	*v = (struct validation){0};
}

void probe_report_deinit(struct probe_report *r)
{
	free(r->summary);
	json_decref(r->diagnostics);
	json_decref(r->metadata);
	json_decref(r->extra);
	*r = (struct probe_report){0};
}

void lease_result_deinit(struct lease_result *r)
{
	free(r->provider_lease_id);
	free(r->expires_at);
	json_decref(r->metadata);
	json_decref(r->extra);
	*r = (struct lease_result){0};
}

void realize_result_deinit(struct realize_result *r)
{
	free(r->cwd);
	json_decref(r->metadata);
	*r = (struct realize_result){0};
}

void execute_result_deinit(struct execute_result *r)
{
	json_decref(r->metadata);
	json_decref(r->extra);
	*r = (struct execute_result){0};
}

void reap_report_deinit(struct reap_report *r)
{
	strv_deinit(&r->lines);
}
