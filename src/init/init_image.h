/* init_image: the init program's bytes (an ELF executable), linked into the worker. */
#ifndef INIT_IMAGE_H
#define INIT_IMAGE_H

extern const unsigned char init_image_start[];
extern const unsigned char init_image_end[];

#endif
