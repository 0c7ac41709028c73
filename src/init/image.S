/* The init program, to be run from memory (init_image.h). */
	.section .rodata
	.globl init_image_start
	.globl init_image_end
	.balign 16
init_image_start:
	.incbin INIT_PROGRAM
init_image_end:
	.section .note.GNU-stack, "", %progbits
