# A guest in one sector. On COM1, every four ticks of the BIOS's clock (0.22 s), a line
#   HB <hexadecimal count> d=<number of virtio disks on the PCI bus> w=<'.' if the count could be written to disk, else '!'>
# so it shows, without an operating system, that it runs, what is plugged into it and that its disk works.
	.code16
	.globl _start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	sti
	movb	%dl, drive
beat:
	# Devices 1af4:1001, found by the PCI BIOS one by one.
	xorw	%si, %si
1:	movw	$0xb102, %ax
	movw	$0x1001, %cx
	movw	$0x1af4, %dx
	int	$0x1a
	jc	2f
	incw	%si
	jmp	1b
2:	movw	%si, %ax
	addb	$'0', %al
	movb	%al, disks
	# The count goes to the third sector.
	movl	count, %eax
	movl	%eax, 0x8000
	movw	$0x0301, %ax
	movw	$0x0003, %cx
	xorb	%dh, %dh
	movb	drive, %dl
	movw	$0x8000, %bx
	int	$0x13
	movb	$'.', %al
	jnc	3f
	movb	$'!', %al
3:	movb	%al, written
	# The count in hexadecimal, from its last digit.
	movl	count, %eax
	movw	$digits + 7, %di
	movw	$8, %cx
4:	movb	%al, %bl
	andb	$15, %bl
	cmpb	$10, %bl
	jb	5f
	addb	$'a' - '0' - 10, %bl
5:	addb	$'0', %bl
	movb	%bl, (%di)
	shrl	$4, %eax
	decw	%di
	loop	4b
	movw	$line, %si
6:	movw	$0x3fd, %dx
7:	inb	%dx, %al
	testb	$0x20, %al
	jz	7b
	lodsb
	testb	%al, %al
	jz	8f
	movw	$0x3f8, %dx
	outb	%al, %dx
	jmp	6b
8:	incl	count
	movl	0x46c, %ebx
	addl	$4, %ebx
9:	hlt
	movl	0x46c, %eax
	subl	%ebx, %eax
	js	9b
	jmp	beat

drive:	.byte 0
count:	.long 0
line:	.ascii "HB "
digits:	.ascii "00000000 d="
disks:	.ascii "0 w="
written: .asciz ".\r\n"
	.org	510
	.word	0xaa55
