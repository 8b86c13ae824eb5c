/* The service's answers, as they were recorded. */
    .syntax unified
    .section .rodata.answers, "a"

    .global assigning, assigning_end, assigned, assigned_end
assigning:
    .incbin "operation-assigning.json"
assigning_end:
assigned:
    .incbin "operation-assigned.json"
assigned_end:
