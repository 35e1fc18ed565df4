(** How is a stream cut, when all that is known of a rule is where a chunk that
    began at [b] may end?

    A rule is a test [fires b c]: "a chunk that began at [b] may end at [c]".  A
    chunk ends at the first position that fires.  Everything in this file holds
    for every such rule that keeps to a minimum and a maximum size, so it serves
    the plain rule (Rule.v) and the restarting hash (Restart.v) alike.

    Two views of the same chunking are defined and proved equal: jumping from
    cut to cut ([next_cut], [cuts], what programs do) and stepping over every
    position while carrying the last cut ([sweep], [after], what proofs like). *)

From Coq Require Import Arith Bool List Lia.
Import ListNotations.

(** [fires b c]: may a chunk that began at [b] end at [c]? *)
Definition rule := nat -> nat -> bool.

(** The rule never fires below the minimum and always fires at the maximum. *)
Record bounded (min max : nat) (fires : rule) : Prop := {
  fires_late : forall b c, fires b c = true -> b + min <= c;
  fires_at_max : forall b, fires b (b + max) = true
}.

(** * Definitions *)

(** From [b], jump from cut to next cut and list those below [e].  (Programs loop;
    [fuel] bounds the rounds, and [e] rounds are always enough.) *)
Fixpoint jump (next : nat -> nat) (b e fuel : nat) : list nat :=
  match fuel with
  | 0 => []
  | S k => let c := next b in if c <? e then c :: jump next c e k else []
  end.

Section Definitions.
  Variables min max : nat.
  Variable fires : rule.

  (** The first position from [c] on that fires, giving up after [fuel] of them. *)
  Fixpoint first_firing (b c fuel : nat) : nat :=
    match fuel with
    | 0 => c
    | S k => if fires b c then c else first_firing b (S c) k
    end.

  (** The end of the chunk that begins at [b]; the first [min] bytes are skipped. *)
  Definition next_cut (b : nat) : nat := first_firing b (b + min) (max - min).

  (** The cuts below [e] of the chunking that begins at [b] ([b] is not listed). *)
  Definition cuts (b e : nat) : list nat := jump next_cut b e e.

  (** THE serial chunking of a file that occupies [o, n): its last cut is [n]. *)
  Fixpoint serial_fuel (b n fuel : nat) : list nat :=
    match fuel with
    | 0 => []
    | S k => if b <? n
             then let c := Nat.min (next_cut b) n in c :: serial_fuel c n k
             else []
    end.
  Definition serial (o n : nat) : list nat := serial_fuel o n n.

  (** [c] is a cut of the (endless) chunking that begins at [b]. *)
  Inductive cut_of (b : nat) : nat -> Prop :=
  | cut_begin : cut_of b b
  | cut_step : forall c, cut_of b c -> cut_of b (next_cut c).

  (** [a] is the last cut before [x] of the chunking that begins at [b]. *)
  Definition last_cut_before (b x a : nat) : Prop :=
    cut_of b a /\ a < x <= next_cut a.

  (** One position: a state is a last cut; it moves to [x] if the rule fires. *)
  Definition step (x b : nat) : nat := if fires b x then x else b.

  (** The last cut after stepping over the [k] positions from [x] on. *)
  Fixpoint after (b x k : nat) : nat :=
    match k with 0 => b | S j => after (step x b) (S x) j end.

  (** The cuts made while stepping over the [k] positions from [x] on. *)
  Fixpoint sweep (b x k : nat) : list nat :=
    match k with
    | 0 => []
    | S j => if fires b x then x :: sweep x (S x) j else sweep b (S x) j
    end.
End Definitions.
Arguments next_cut : simpl never.
Arguments step : simpl never.

(** * Stepping over positions *)

Section Stepping.
  Variables f g : rule.

  Lemma after_app : forall j k b x, after f b x (j + k) = after f (after f b x j) (x + j) k.
  Proof.
    induction j as [|j IH]; intros k b x; simpl.
    - now rewrite Nat.add_0_r.
    - rewrite IH. now rewrite Nat.add_succ_r.
  Qed.

  Lemma after_last : forall k b x, after f b x (S k) = step f (x + k) (after f b x k).
  Proof. intros. replace (S k) with (k + 1) by lia. now rewrite after_app. Qed.

  Lemma sweep_app : forall j k b x,
    sweep f b x (j + k) = sweep f b x j ++ sweep f (after f b x j) (x + j) k.
  Proof.
    induction j as [|j IH]; intros k b x; simpl.
    - now rewrite Nat.add_0_r.
    - unfold step. rewrite Nat.add_succ_r. destruct (f b x); simpl; now rewrite IH.
  Qed.

  Lemma sweep_agree : forall k b x,
    (forall a c, x <= c < x + k -> f a c = g a c) -> sweep f b x k = sweep g b x k.
  Proof.
    induction k as [|k IH]; intros b x H; simpl; trivial.
    rewrite (H b x) by lia.
    destruct (g b x); [f_equal|]; apply IH; intros; apply H; lia.
  Qed.

  Lemma after_agree : forall k b x,
    (forall a c, x <= c < x + k -> f a c = g a c) -> after f b x k = after g b x k.
  Proof.
    induction k as [|k IH]; intros b x H; simpl; trivial.
    unfold step. rewrite (H b x) by lia. apply IH. intros; apply H; lia.
  Qed.

  (** Where nothing fires, nothing happens. *)
  Lemma quiet : forall k b x,
    (forall c, x <= c < x + k -> f b c = false) -> sweep f b x k = [] /\ after f b x k = b.
  Proof.
    induction k as [|k IH]; intros b x H; simpl; [easy|].
    unfold step. rewrite (H x) by lia. apply IH. intros; apply H; lia.
  Qed.

  Lemma last_default : forall (l : list nat) c b, last (c :: l) b = last l c.
  Proof.
    induction l as [|d l IH]; intros c b; trivial.
    change (last (c :: d :: l) b) with (last (d :: l) b). now rewrite !IH.
  Qed.

  Lemma last_sweep : forall k b x, last (sweep f b x k) b = after f b x k.
  Proof.
    induction k as [|k IH]; intros b x; trivial.
    simpl. unfold step. destruct (f b x); rewrite <- IH; [apply last_default|reflexivity].
  Qed.

  Lemma in_sweep : forall k b x c,
    In c (sweep f b x k) -> x <= c < x + k.
  Proof.
    induction k as [|k IH]; intros b x c H; simpl in H; [easy|].
    destruct (f b x); [destruct H as [->|H]; [lia|]|]; apply IH in H; lia.
  Qed.
End Stepping.

(** Rules that agree everywhere cut alike. *)
Lemma next_cut_agree : forall min max f g, (forall b c, f b c = g b c) ->
  forall b, next_cut min max f b = next_cut min max g b.
Proof.
  intros min max f g E b. unfold next_cut. generalize (b + min), (max - min).
  intros c k. revert c. induction k as [|k IH]; intros c; simpl; trivial. now rewrite E, IH.
Qed.

Lemma cut_of_agree : forall min max f g, (forall b c, f b c = g b c) ->
  forall b c, cut_of min max f b c -> cut_of min max g b c.
Proof.
  intros min max f g E b c. induction 1; [constructor|].
  rewrite (next_cut_agree _ _ _ _ E). now constructor.
Qed.

Lemma jump_agree : forall next next', (forall b, next b = next' b) ->
  forall fuel b e, jump next b e fuel = jump next' b e fuel.
Proof.
  intros next next' E. induction fuel as [|k IH]; intros b e; simpl; trivial.
  rewrite E. destruct (next' b <? e); [now rewrite IH|reflexivity].
Qed.

(** * Jumping from cut to cut, and why it is the same *)

Section Jumping.
  Variables min max : nat.
  Hypothesis sizes : 1 <= min <= max.
  Variable f : rule.
  Hypothesis Hf : bounded min max f.

  Notation next := (next_cut min max f).

  Lemma first_firing_spec : forall fuel b c,
    f b (c + fuel) = true ->
    let d := first_firing f b c fuel in
    c <= d <= c + fuel /\ f b d = true /\ forall x, c <= x < d -> f b x = false.
  Proof.
    induction fuel as [|k IH]; intros b c H; simpl.
    - rewrite Nat.add_0_r in H. repeat split; try lia; try assumption.
    - destruct (f b c) eqn:E.
      + repeat split; try lia; assumption.
      + rewrite Nat.add_succ_r in H. destruct (IH b (S c) H) as (R & T & Q).
        repeat split; try lia; try assumption.
        intros x Hx. destruct (Nat.eq_dec x c) as [->|]; [assumption|apply Q; lia].
  Qed.

  Lemma next_cut_spec : forall b,
    b + min <= next b <= b + max /\ f b (next b) = true
    /\ forall c, b < c < next b -> f b c = false.
  Proof.
    intros b. unfold next_cut.
    assert (F : f b (b + min + (max - min)) = true).
    { replace (b + min + (max - min)) with (b + max) by lia. apply (fires_at_max _ _ _ Hf). }
    destruct (first_firing_spec _ _ _ F) as (R & T & Q).
    repeat split; try lia; try assumption.
    intros c Hc. destruct (le_lt_dec (b + min) c) as [L|L]; [apply Q; lia|].
    destruct (f b c) eqn:E; trivial. apply (fires_late _ _ _ Hf) in E. lia.
  Qed.

  (** The next cut is the least position that fires: the rule is deterministic. *)
  Lemma next_cut_unique : forall b c,
    b < c -> f b c = true -> (forall d, b < d < c -> f b d = false) -> next b = c.
  Proof.
    intros b c L T Q. destruct (next_cut_spec b) as (R & T' & Q').
    destruct (lt_eq_lt_dec (next b) c) as [[H|H]|H]; trivial; exfalso.
    - rewrite Q in T' by lia. discriminate.
    - rewrite Q' in T by lia. discriminate.
  Qed.

  Lemma next_after : forall b, b < next b.
  Proof. intros b. destruct (next_cut_spec b) as (R & _). lia. Qed.

  (** Up to its next cut, stepping leaves the last cut alone. *)
  Lemma quiet_before_next : forall b x k,
    b < x -> x + k <= next b -> sweep f b x k = [] /\ after f b x k = b.
  Proof.
    intros b x k L U. apply quiet. intros c Hc.
    destruct (next_cut_spec b) as (_ & _ & Q). apply Q. lia.
  Qed.

  Lemma step_next : forall b, step f (next b) b = next b.
  Proof. intros b. unfold step. destruct (next_cut_spec b) as (_ & T & _). now rewrite T. Qed.

  (** A chunk list found by jumping is the list found by stepping. *)
  Lemma jump_sweep : forall fuel b e,
    e - S b <= fuel -> jump next b e fuel = sweep f b (S b) (e - S b).
  Proof.
    induction fuel as [|k IH]; intros b e H; simpl.
    - now replace (e - S b) with 0 by lia.
    - pose proof (next_after b) as L. destruct (Nat.ltb_spec (next b) e) as [U|U].
      + replace (e - S b) with ((next b - S b) + S (e - S (next b))) by lia.
        destruct (quiet_before_next b (S b) (next b - S b)) as [Q1 Q2]; [lia|lia|].
        rewrite sweep_app, Q1, Q2, app_nil_l.
        replace (S b + (next b - S b)) with (next b) by lia.
        simpl. destruct (next_cut_spec b) as (_ & T & _). rewrite T.
        f_equal. apply IH. lia.
      + destruct (quiet_before_next b (S b) (e - S b)) as [Q _]; [lia|lia|]. now rewrite Q.
  Qed.

  Lemma cuts_sweep : forall b e, cuts min max f b e = sweep f b (S b) (e - S b).
  Proof. intros. apply jump_sweep. lia. Qed.

  (** The serial chunking is the cuts below the end, and the end. *)
  Lemma serial_fuel_cuts : forall fuel b n,
    n - b <= fuel ->
    serial_fuel min max f b n fuel = jump next b n fuel ++ (if b <? n then [n] else []).
  Proof.
    induction fuel as [|k IH]; intros b n H; simpl.
    - now replace (b <? n) with false by (symmetry; apply Nat.ltb_ge; lia).
    - pose proof (next_after b) as L.
      destruct (Nat.ltb_spec b n); destruct (Nat.ltb_spec (next b) n); try lia.
      + rewrite Nat.min_l by lia. rewrite IH by lia.
        now replace (next b <? n) with true by (symmetry; apply Nat.ltb_lt; lia).
      + rewrite Nat.min_r by lia. simpl. f_equal. destruct k; simpl; trivial.
        now rewrite Nat.ltb_irrefl.
      + reflexivity.
  Qed.

  Lemma serial_sweep : forall o n,
    serial min max f o n = sweep f o (S o) (n - S o) ++ (if o <? n then [n] else []).
  Proof.
    intros. unfold serial. rewrite serial_fuel_cuts by lia.
    f_equal. apply jump_sweep. lia.
  Qed.

  (** ** Cuts of a chunking and its last cut *)

  Lemma cut_of_after_begin : forall b c, cut_of min max f b c -> b <= c.
  Proof. induction 1; [lia|]. pose proof (next_after c). lia. Qed.

  (** Stepping carries the last cut: the whole meaning of [after]. *)
  Lemma after_is_last_cut : forall b x a k,
    last_cut_before min max f b x a -> last_cut_before min max f b (x + k) (after f a x k).
  Proof.
    intros b x a k H. induction k as [|k IH].
    - now rewrite Nat.add_0_r.
    - rewrite after_last. destruct IH as (C & L & U). set (a' := after f a x k) in *.
      destruct (Nat.eq_dec (next a') (x + k)) as [E|E].
      + rewrite <- E, step_next, E. repeat split; try lia.
        * rewrite <- E. now constructor.
        * pose proof (next_after (x + k)). lia.
      + assert (S : step f (x + k) a' = a').
        { unfold step. destruct (next_cut_spec a') as (_ & _ & Q). rewrite Q; trivial. lia. }
        rewrite S. repeat split; trivial; lia.
  Qed.

  Lemma begin_is_last_cut : forall b, last_cut_before min max f b (S b) b.
  Proof. intros b. pose proof (next_after b). repeat split; [constructor|lia|lia]. Qed.

  Lemma last_cut_is_after : forall b c,
    cut_of min max f b c -> after f b (S b) (c - b) = c.
  Proof.
    induction 1 as [|c C IH].
    - now rewrite Nat.sub_diag.
    - pose proof (next_after c). pose proof (cut_of_after_begin _ _ C).
      replace (next c - b) with ((c - b) + S (next c - S c)) by lia.
      rewrite after_app, IH. replace (S b + (c - b)) with (S c) by lia.
      rewrite after_last. replace (S c + (next c - S c)) with (next c) by lia.
      destruct (quiet_before_next c (S c) (next c - S c)) as [_ Q]; [lia|lia|].
      rewrite Q. apply step_next.
  Qed.

  (** A chunking has one last cut before any position. *)
  Lemma last_cut_unique : forall b x a,
    last_cut_before min max f b x a -> a = after f b (S b) (x - S b).
  Proof.
    intros b x a (C & L & U). pose proof (cut_of_after_begin _ _ C).
    replace (x - S b) with ((a - b) + (x - S a)) by lia.
    rewrite after_app, (last_cut_is_after _ _ C).
    replace (S b + (a - b)) with (S a) by lia.
    now destruct (quiet_before_next a (S a) (x - S a)) as [_ ->]; [lia|lia|].
  Qed.

  Lemma last_cut_exists : forall b x, b < x ->
    last_cut_before min max f b x (after f b (S b) (x - S b)).
  Proof.
    intros b x L. pose proof (after_is_last_cut _ _ _ (x - S b) (begin_is_last_cut b)) as H.
    now replace (S b + (x - S b)) with x in H by lia.
  Qed.

  (** The last cut lies at most [max] behind. *)
  Lemma last_cut_near : forall b x a, last_cut_before min max f b x a -> a < x <= a + max.
  Proof. intros b x a (_ & L & U). destruct (next_cut_spec a) as (R & _). lia. Qed.

  (** From its last cut before [x] on, stepping ends at [c] exactly when [c] is a cut. *)
  Lemma cut_of_iff_after : forall b x a c,
    last_cut_before min max f b x a -> x <= c ->
    (cut_of min max f b c <-> after f a x (S c - x) = c).
  Proof.
    intros b x a c H L. pose proof (after_is_last_cut _ _ _ (S c - x) H) as A.
    replace (x + (S c - x)) with (S c) in A by lia. split.
    - intros C. rewrite (last_cut_unique _ _ _ A).
      replace (S c - S b) with (c - b) by lia. now apply last_cut_is_after.
    - intros E. destruct A as (C & _). now rewrite E in C.
  Qed.
End Jumping.
