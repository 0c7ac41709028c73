/* The init program, to be run from memory (init_image.h). */
	.section .rodata
	.globl init_image
	.globl init_image_size
	.balign 16
init_image:
	.incbin INIT_PROGRAM
init_image_end:
	.balign 8
init_image_size:
	.quad init_image_end - init_image
	.section .note.GNU-stack, "", %progbits
