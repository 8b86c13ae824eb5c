/* Answers of the service and of a hub, as they were recorded. */
    .syntax unified
    .section .rodata.vectors, "a"

    .global assigning, assigning_end, assigned, assigned_end, its_twin, its_twin_end
assigning:
    .incbin "operation-assigning.json"
assigning_end:
assigned:
    .incbin "operation-assigned.json"
assigned_end:
its_twin:
    .incbin "twin-toaster.json"
its_twin_end:
