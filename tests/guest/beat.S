# A guest in 17 sectors. On COM1, every four ticks of the BIOS's clock (0.22 s), a line
#   HB <hexadecimal count> d=<number of virtio disks on the PCI bus> w=<'.' if the count could be written to disk, else '!'>
# so it shows, without an operating system, that it runs, what is plugged into it and that its disk works. Between the
# beats it answers pings (answer.c).
	.code16
	.globl _start, address, interrupted
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$0x7c00, %esp
	sti
	movb	%dl, drive
	# What does not fit the first sector.
	movw	$0x0210, %ax
	movw	$0x0002, %cx
	xorb	%dh, %dh
	movw	$0x7e00, %bx
	int	$0x13
	calll	answer_begin
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
	# The count goes to the sector after the program.
	movl	count, %eax
	movl	%eax, 0x500
	movw	$0x0301, %ax
	movw	$0x0012, %cx
	xorb	%dh, %dh
	movb	drive, %dl
	movw	$0x500, %bx
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
	movl	0x46c, %eax
	addl	$4, %eax
	movl	%eax, next
9:	calll	answer_all
	# An interrupt between the question and the halt would be slept through for a tick.
	cli
	calll	answer_waits
	testl	%eax, %eax
	jnz	10f
	sti
	hlt
10:	sti
	movl	0x46c, %eax
	subl	next, %eax
	js	9b
	jmp	beat

# The network card interrupts: reading its status makes it quiet.
interrupted:
	pushw	%ax
	pushw	%dx
	movw	%cs:status, %dx
	inb	%dx, %al
	movb	$0x20, %al
	outb	%al, $0xa0
	outb	%al, $0x20
	popw	%dx
	popw	%ax
	iretw

	.globl	status
status:	.word 0
drive:	.byte 0
count:	.long 0
next:	.long 0
line:	.ascii "HB "
digits:	.ascii "00000000 d="
disks:	.ascii "0 w="
written: .asciz ".\r\n"
	# Its IPv4 address.
	.org	506
address: .byte 0, 0, 0, 0
	.word	0xaa55
