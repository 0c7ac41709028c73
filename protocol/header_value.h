/* header_value: what stands inside a header's value: media types and parameters (RFC 9110, 5.6.6 and 8.3; RFC 6266; RFC 8187). */
#ifndef PROTOCOL_HEADER_VALUE_H
#define PROTOCOL_HEADER_VALUE_H

#include "base/buf.h"

/* True if the value's media type (before any parameter) is this one, in any case. value may be NULL. */
bool header_is_type(const char *value, const char *type);
/*
 * The parameter's value (name in any case), unquoted; NULL if it is not there. A form with a star (filename*=utf-8''a%20b) is preferred
 * and decoded. Owned by the caller, valid UTF-8.
 */
char *header_param(const char *value, const char *name);

#endif
