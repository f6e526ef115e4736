void *memset(void *to, int value, unsigned long count);
void *memcpy(void *to, const void *from, unsigned long count);
