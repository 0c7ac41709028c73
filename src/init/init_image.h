/* init_image: the init program's bytes (an ELF executable), linked into the worker. */
#ifndef INIT_IMAGE_H
#define INIT_IMAGE_H

#include <stdint.h>

extern const unsigned char init_image[];
extern const uint64_t init_image_size;

#endif
