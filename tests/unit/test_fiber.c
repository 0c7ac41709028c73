#include "fd_watch.h"
#include "fiber.h"
#include "loop.h"
#include "tap.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int counter;

static void count_after(void *arg)
{
	cleanup_err struct err err = ERR_INIT;

	if (fiber_sleep((intptr_t)arg, &err) == 0)
		counter++;
}

static void start_a_thousand(void *arg)
{
	struct fiber_group group;

	(void)arg;
	fiber_group_init(&group);
	for (int i = 0; i < 1000; i++)
		fiber_group_start(&group, count_after, (void *)(intptr_t)(i % 7));
	CHECK_INT(fiber_group_join(&group, NULL), 0);
	CHECK_INT(counter, 1000);
}

TEST(a_group_is_joined_when_all_children_have_ended)
{
	counter = 0;
	run_in_loop(start_a_thousand, NULL);
}

static void let_the_deadline_pass(void *arg)
{
	struct fiber_scope scope;
	struct fiber_group group;
	cleanup_err struct err err = ERR_INIT;

	(void)arg;
	deadline_enter(&scope, 20);
	fiber_group_init(&group);
	fiber_group_start(&group, count_after, (void *)60000);
	CHECK_INT(fiber_group_join(&group, &err), -1);
	CHECK(err_is(&err, ERR_TIMEOUT));
	CHECK_INT(counter, 0);
	err_clear(&err);
	CHECK_INT(fiber_sleep(0, &err), -1);
	CHECK(err_is(&err, ERR_TIMEOUT));
	CHECK_INT(deadline_left_ms(), 0);
	scope_leave(&scope);
	CHECK(deadline_left_ms() == DEADLINE_NONE);
	CHECK_INT(fiber_sleep(1, NULL), 0);
}

TEST(a_deadline_ends_the_wait_and_the_children_and_ends_with_its_scope)
{
	counter = 0;
	run_in_loop(let_the_deadline_pass, NULL);
}

static void nest_deadlines(void *arg)
{
	struct fiber_scope outer, inner;
	cleanup_err struct err err = ERR_INIT;

	(void)arg;
	deadline_enter(&outer, 10);
	deadline_enter(&inner, 60000);
	CHECK(deadline_left_ms() <= 10);
	CHECK_INT(fiber_sleep(60000, &err), -1);
	CHECK(err_is(&err, ERR_TIMEOUT));
	scope_leave(&inner);
	scope_leave(&outer);
}

TEST(an_inner_deadline_cannot_be_later_than_the_outer_one)
{
	run_in_loop(nest_deadlines, NULL);
}

static void shield_from_cancel(void *arg)
{
	struct fiber_scope scope;
	cleanup_err struct err err = ERR_INIT;

	(void)arg;
	fiber_cancel(fiber_self());
	CHECK_INT(fiber_sleep(1, &err), -1);
	CHECK(err_is(&err, ERR_CANCELLED));
	err_clear(&err);
	shield_enter(&scope, 50);
	CHECK_INT(fiber_sleep(1, &err), 0);
	CHECK_INT(fiber_sleep(60000, &err), -1);
	CHECK(err_is(&err, ERR_TIMEOUT));
	err_clear(&err);
	scope_leave(&scope);
	CHECK_INT(fiber_yield(&err), -1);
	CHECK(err_is(&err, ERR_CANCELLED));
	CHECK(fiber_is_cancelled());
}

TEST(a_shield_keeps_cancellation_off_until_its_own_limit)
{
	run_in_loop(shield_from_cancel, NULL);
}

static struct event shared;
static struct fiber *waiter;

static void wait_for_shared(void *arg)
{
	*(int *)arg = event_wait(&shared, NULL);
}

static void cancel_the_waiter(void *arg)
{
	int result = 1;

	(void)arg;
	waiter = fiber_start(wait_for_shared, &result);
	fiber_sleep(2, NULL);
	CHECK_INT(result, 1);
	fiber_cancel(waiter);
	fiber_sleep(2, NULL);
	CHECK_INT(result, -1);
	CHECK(!shared.waiter);
}

TEST(cancelling_wakes_a_waiting_fiber_and_unwatches_its_event)
{
	shared = (struct event){0};
	run_in_loop(cancel_the_waiter, NULL);
}

static void use_events(void *arg)
{
	struct event event = {0};
	bool set = true;

	(void)arg;
	event_set(&event);
	event_set(&event);
	CHECK_INT(event_wait(&event, NULL), 0);
	CHECK_INT(event_wait_for(&event, 1, &set, NULL), 0);
	CHECK(!set);
	event_set(&event);
	CHECK_INT(event_wait_for(&event, -1, &set, NULL), 0);
	CHECK(set);
}

TEST(setting_an_event_twice_is_setting_it_once_and_a_wait_clears_it)
{
	run_in_loop(use_events, NULL);
}

static void ping(void *arg)
{
	for (int i = 0; i < 50000; i++)
		if (fiber_yield(NULL) == 0)
			++*(int *)arg;
}

static void yield_beside_a_timer(void *arg)
{
	struct fiber_group group;
	int turns = 0;

	(void)arg;
	counter = 0;
	fiber_group_init(&group);
	fiber_group_start(&group, ping, &turns);
	fiber_group_start(&group, ping, &turns);
	fiber_group_start(&group, count_after, (void *)1);
	fiber_group_join(&group, NULL);
	CHECK_INT(turns, 100000);
	CHECK_INT(counter, 1);
}

TEST(fibers_that_never_rest_do_not_starve_the_loop)
{
	run_in_loop(yield_beside_a_timer, NULL);
}

struct pipe_test {
	int fds[2];
	char got[8];
};

static void read_when_ready(void *arg)
{
	struct pipe_test *t = arg;
	struct fd_watch *watch = NULL;

	CHECK_INT(fd_watch_create(t->fds[0], &watch, NULL), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_INT(fd_watch_wait(watch, FD_READABLE, NULL), 0);
		CHECK_INT(read(t->fds[0], t->got + i, 1), 1);
	}
	fd_watch_destroy(watch);
}

static void write_slowly(void *arg)
{
	struct pipe_test *t = arg;

	for (int i = 0; i < 3; i++) {
		fiber_sleep(2, NULL);
		CHECK_INT(write(t->fds[1], &"abc"[i], 1), 1);
	}
}

static void pass_through_a_pipe(void *arg)
{
	struct fiber_group group;

	fiber_group_init(&group);
	fiber_group_start(&group, read_when_ready, arg);
	fiber_group_start(&group, write_slowly, arg);
	fiber_group_join(&group, NULL);
}

TEST(a_watch_wakes_the_reader_for_each_write)
{
	struct pipe_test t = {0};

	CHECK_INT(pipe2(t.fds, O_CLOEXEC), 0);
	run_in_loop(pass_through_a_pipe, &t);
	CHECK_STR(t.got, "abc");
	close(t.fds[0]);
	close(t.fds[1]);
}

static void watch_a_file(void *arg)
{
	struct fd_watch *watch = NULL;
	cleanup_err struct err err = ERR_INIT;
	cleanup_close int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)arg;
	CHECK_INT(fd_watch_create(fd, &watch, &err), -1);
	CHECK(err_is(&err, ERR_UNSUPPORTED));
}

TEST(a_regular_file_cannot_be_watched)
{
	run_in_loop(watch_a_file, NULL);
}

TEST_MAIN()
