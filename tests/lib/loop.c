#include "loop.h"

#include "tap.h"

void run_in_loop(fiber_fn *fn, void *arg)
{
	uv_loop_t loop;

	uv_loop_init(&loop);
	struct scheduler *scheduler = scheduler_create(&loop);

	fiber_start(fn, arg);
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK_INT(fiber_count(), 0);
	scheduler_destroy(scheduler);
	CHECK_INT(uv_loop_close(&loop), 0);
}
