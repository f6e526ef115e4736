/* From reset to main on a bare Cortex-M: the coprocessor on, data copied, the rest zero; output by semihosting. */
extern int main(void);
extern void exit(int);
extern void initialise_monitor_handles(void);
extern unsigned stack_top, data_from, data_start, data_end, bss_start, bss_end;

void reset(void)
{
    const unsigned *from = &data_from;
    *(volatile unsigned *)0xE000ED88 |= 0xFu << 20;
    for (unsigned *to = &data_start; to < &data_end;) *to++ = *from++;
    for (unsigned *to = &bss_start; to < &bss_end;) *to++ = 0;
    initialise_monitor_handles();
    exit(main());
}

void fault(void)
{
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))&stack_top, reset, fault, fault, fault, fault, fault,
};
