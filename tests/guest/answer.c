/* Answers ARP and ICMP echo requests on the first virtio network card, in real mode, in the memory that the BIOS leaves.
 *
 * virtio 1.2, section 4.1.4.8 (legacy interface, registers in I/O space) and 2.7 (split virtqueues). A frame is answered in
 * the buffer it came in: the buffer goes to the sending queue, and back to the receiving one when it is sent.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

/* beat.S */
extern u8 address[4];
extern u16 status;
extern void interrupted(void);

enum { RECEIVE, SEND };
enum { BUFFERS = 16, BUFFER_BYTES = 1536, HEADER = 10, SIZE = 256 };
/* Each queue has three pages: descriptors, available ring, used ring, for the size that QEMU offers. */
enum { QUEUES_AT = 0x1000, QUEUE_BYTES = 0x3000, BUFFERS_AT = 0xa000 };

struct descriptor { u32 address, address_high, length; u16 flags, next; };
struct available { u16 flags, index, ring[SIZE]; };
struct used { u16 flags, index; struct { u32 id, length; } ring[SIZE]; };

/* Zero in the image that is loaded, which a .bss would not be part of. */
#define KEPT __attribute__((section(".data")))
static u16 card KEPT = 0;
static u16 seen[2] KEPT = {0};

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u16 in16(u16 port) { u16 value; __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u32 in32(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

static u8 *at(u32 where) { __asm__("" : "+r"(where)); return (u8 *)where; }
static struct descriptor *descriptors(int queue) { return (void *)at(QUEUES_AT + queue * QUEUE_BYTES); }
static volatile struct available *available(int queue)
{
	return (void *)at(QUEUES_AT + queue * QUEUE_BYTES + SIZE * sizeof(struct descriptor));
}
static volatile struct used *used(int queue) { return (void *)at(QUEUES_AT + queue * QUEUE_BYTES + 0x2000); }
static u8 *buffer(u32 number) { return at(BUFFERS_AT + number * BUFFER_BYTES); }

static void give(int queue, u32 number, u32 length)
{
	volatile struct available *ring = available(queue);
	struct descriptor *entry = &descriptors(queue)[number];
	entry->address = BUFFERS_AT + number * BUFFER_BYTES;
	entry->address_high = 0;
	entry->length = length;
	entry->flags = queue == RECEIVE ? 2 : 0; /* the device writes it */
	ring->ring[ring->index % SIZE] = number;
	__asm__ volatile("" : : : "memory");
	ring->index++;
	out16(card + 0x10, queue);
}

static u32 configuration(u32 device, u32 where)
{
	out32(0xcf8, 0x80000000 | device << 11 | where);
	return in32(0xcfc);
}

static u32 find(void)
{
	for (u32 device = 0; device < 32; device++)
		if (configuration(device, 0) == 0x10001af4)
			return device;
	return 32;
}

static void listen(u8 line)
{
	volatile u16 *vector = (void *)at(4 * (line < 8 ? 8 + line : 0x68 + line));
	status = card + 0x13;
	vector[0] = (u16)(u32)interrupted;
	vector[1] = 0;
	if (line >= 8)
		out8(0xa1, in8(0xa1) & ~(1 << (line - 8)));
	out8(0x21, in8(0x21) & ~(line < 8 ? 1 << line : 4));
}

void answer_begin(void)
{
	u32 device = find();
	if (device == 32)
		return;
	card = configuration(device, 0x10) & ~3;
	u32 command = configuration(device, 4);
	out32(0xcfc, command | 5); /* I/O space, bus master */
	out8(card + 0x12, 0);
	out8(card + 0x12, 1 | 2);
	out32(card + 4, 0); /* none of its features */
	for (int queue = RECEIVE; queue <= SEND; queue++) {
		out16(card + 0xe, queue);
		if (in16(card + 0xc) != SIZE) {
			card = 0;
			return;
		}
		for (u32 *word = (u32 *)descriptors(queue); word < (u32 *)descriptors(queue + 1); word++)
			*word = 0;
		out32(card + 8, (QUEUES_AT + queue * QUEUE_BYTES) >> 12);
	}
	available(SEND)->flags = 1; /* no interrupt for what is sent */
	listen(configuration(device, 0x3c));
	out8(card + 0x12, 1 | 2 | 4);
	for (u32 number = 0; number < BUFFERS; number++)
		give(RECEIVE, number, BUFFER_BYTES);
}

static int same(const u8 *one, const u8 *other, int bytes)
{
	while (bytes-- > 0)
		if (*one++ != *other++)
			return 0;
	return 1;
}

static void swap(u8 *one, u8 *other, int bytes)
{
	while (bytes-- > 0) {
		u8 kept = *one;
		*one++ = *other;
		*other++ = kept;
	}
}

/* "Who has my address?": I have, here. RFC 826. */
static int answer_arp(u8 *arp, const u8 *mine)
{
	if (arp[7] != 1 || !same(arp + 24, address, 4))
		return 0;
	arp[7] = 2;
	swap(arp + 8, arp + 18, 10);
	for (int i = 0; i < 6; i++)
		arp[8 + i] = mine[i];
	return 1;
}

/* RFC 792; a header without options. The checksum grows by what the type shrinks. */
static int answer_echo(u8 *ip)
{
	if (ip[0] != 0x45 || ip[9] != 1 || ip[20] != 8 || !same(ip + 16, address, 4))
		return 0;
	ip[20] = 0;
	u32 sum = (ip[22] << 8 | ip[23]) + 0x800;
	sum = (sum & 0xffff) + (sum >> 16);
	ip[22] = sum >> 8;
	ip[23] = sum;
	swap(ip + 12, ip + 16, 4);
	return 1;
}

static int answered(u8 *frame)
{
	u8 mine[6];
	for (int i = 0; i < 6; i++)
		mine[i] = in8(card + 0x14 + i);
	u16 type = frame[12] << 8 | frame[13];
	int yes = type == 0x806 ? answer_arp(frame + 14, mine) : type == 0x800 && answer_echo(frame + 14);
	if (yes)
		for (int i = 0; i < 6; i++) {
			frame[i] = frame[6 + i];
			frame[6 + i] = mine[i];
		}
	return yes;
}

u32 answer_waits(void)
{
	return card && seen[RECEIVE] != used(RECEIVE)->index;
}

void answer_all(void)
{
	if (!card)
		return;
	for (; seen[SEND] != used(SEND)->index; seen[SEND]++)
		give(RECEIVE, used(SEND)->ring[seen[SEND] % SIZE].id, BUFFER_BYTES);
	for (; answer_waits(); seen[RECEIVE]++) {
		u32 slot = seen[RECEIVE] % SIZE;
		u32 number = used(RECEIVE)->ring[slot].id, length = used(RECEIVE)->ring[slot].length;
		if (answered(buffer(number) + HEADER)) {
			for (int i = 0; i < HEADER; i++)
				buffer(number)[i] = 0;
			give(SEND, number, length);
		} else {
			give(RECEIVE, number, BUFFER_BYTES);
		}
	}
}
