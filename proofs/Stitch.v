(** Why is the stitched chunking the serial one, for every input and every choice of
    seek points?

    A file is cut into segments.  Each worker sees its own segment only: it certifies
    a cut there if it can and chunks from it.  The stitcher walks the segments in
    order with the last cut in hand, replays the seam up to the certified cut (or the
    whole segment, if there is none) over the segment's own record, and takes over
    the worker's list.  The invariant: after each segment, what was put out is exactly
    the serial cuts so far.

    The file occupies [o, n).  With [o = 0] the live set of a segment near the
    beginning stops at 0; with [o >= max] it has the full [max] states, those before
    the file included.  Both are proved, since [o] is arbitrary. *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking Rule LiveSet.
Import ListNotations.

(** * The model *)

(** Segment ends: the seek points inside the file, in order, each once; and its end. *)
Definition ends (o n : nat) (seeks : list nat) : list nat :=
  filter (fun x => existsb (Nat.eqb x) seeks) (seq (S o) (n - S o)) ++ [n].

Section Stitcher.
  (** [put final s e]: what is put out for the segment [s, e), when [final] is the last
      cut before it. *)
  Variable put : nat -> nat -> nat -> list nat.

  (** The segments after the first, one after the other; [bounds] are their ends. *)
  Fixpoint stitch (final s : nat) (bounds : list nat) : list nat :=
    match bounds with
    | [] => []
    | e :: rest => let mine := put final s e in mine ++ stitch (last mine final) e rest
    end.

  (** The stitched chunking.  The first segment begins at the file's first byte, a
      certified cut as it is: [first s e] is its worker's list. *)
  Definition stitched (first : nat -> nat -> list nat) (o n : nat) (seeks : list nat) : list nat :=
    if o <? n then
      match ends o n seeks with
      | [] => []
      | e :: rest => let mine := first o e in mine ++ stitch (last mine o) e rest ++ [n]
      end
    else [].
End Stitcher.

Section Segments.
  Variables min max : nat.
  (** [own s e]: the rule as seen with the hits of the segment [s, e) alone. *)
  Variable own : nat -> nat -> rule.

  (** A worker's list: the cuts below [e] (one at [e] belongs to the next segment). *)
  Definition list_from (start s e : nat) : list nat := cuts min max (own s e) start e.

  (** With a certified cut: the seam replayed through it, over no hit past it, then the
      worker's list.  Without: all replayed. *)
  Definition put_certified (certified : nat -> nat -> option nat) (final s e : nat) : list nat :=
    match certified s e with
    | Some start => cuts min max (own s (S start)) final (S start) ++ list_from start s e
    | None => cuts min max (own s e) final e
    end.

  (** The elements of a list after [c]. *)
  Fixpoint following (c : nat) (l : list nat) : list nat :=
    match l with [] => [] | d :: t => if d =? c then t else following c t end.

  (** Replay below [e] until a cut is in the worker's list [mine]; from there on, the list. *)
  Fixpoint join_fuel (next : nat -> nat) (mine : list nat) (b e fuel : nat) : list nat :=
    match fuel with
    | 0 => []
    | S k => let c := next b in
             if c <? e
             then c :: (if existsb (Nat.eqb c) mine then following c mine
                        else join_fuel next mine c e k)
             else []
    end.

  (** With a mere guess: the worker chunks from any position of its segment, right or
      wrong; the seam is replayed until it meets the worker's list. *)
  Definition put_joined (guess : nat -> nat -> option nat) (final s e : nat) : list nat :=
    let mine := match guess s e with
                | Some g => g :: list_from g s e
                | None => []
                end in
    join_fuel (next_cut min max (own s e)) mine final e e.
End Segments.

(** What a worker may assume: inside its segment its record is the truth, before its
    segment it shows nothing that is not true. *)
Record view (min max : nat) (f own : rule) (s e : nat) : Prop := {
  view_bounded : bounded min max own;
  view_inside : forall b c, s <= c < e -> own b c = f b c;
  view_before : forall b c, c < s -> own b c = true -> f b c = true
}.

(** * The theorem, for every bounded rule *)

Section Correct.
  Variables min max : nat.
  Hypothesis sizes : 1 <= min <= max.
  Variable f : rule.
  Hypothesis Hf : bounded min max f.
  Variable o : nat.

  Notation is_last := (last_cut_before min max f o).

  (** Replay over a segment's own record, from the last cut before the segment, puts
      out the serial cuts of the segment. *)
  Lemma replay : forall own s e final x, view min max f own s e ->
    is_last s final -> s <= x <= e ->
    cuts min max own final x = sweep f final s (x - s).
  Proof.
    intros own s e final x V L R. destruct L as (_ & Ls & Us).
    rewrite (cuts_sweep _ _ sizes _ (view_bounded _ _ _ _ _ _ V)).
    replace (x - S final) with ((s - S final) + (x - s)) by lia.
    rewrite sweep_app. replace (S final + (s - S final)) with s by lia.
    destruct (quiet own (s - S final) final (S final)) as [-> ->].
    - intros c Hc. destruct (own final c) eqn:T; trivial.
      apply (view_before _ _ _ _ _ _ V) in T; [|lia].
      destruct (next_cut_spec _ _ sizes _ Hf final) as (_ & _ & Q).
      rewrite Q in T; [discriminate|lia].
    - simpl. apply sweep_agree. intros; apply (view_inside _ _ _ _ _ _ V). lia.
  Qed.

  (** A worker's own list, from a position in its segment, is what the rule gives. *)
  Lemma own_list : forall own s e start, view min max f own s e -> s <= start ->
    cuts min max own start e = sweep f start (S start) (e - S start).
  Proof.
    intros own s e start V L.
    rewrite (cuts_sweep _ _ sizes _ (view_bounded _ _ _ _ _ _ V)).
    apply sweep_agree. intros; apply (view_inside _ _ _ _ _ _ V). lia.
  Qed.

  (** ** A segment is put out right *)

  Section OneSegment.
    Variable own : nat -> nat -> rule.
    Hypothesis views : forall s e, view min max f (own s e) s e.

    (** With a soundly certified cut: at some [y] in the segment it is the last cut. *)
    Lemma put_certified_serial : forall certified s e final,
      (forall start, certified s e = Some start -> exists y, s <= y <= e /\ is_last y start) ->
      is_last s final -> s <= e ->
      put_certified min max own certified final s e = sweep f final s (e - s).
    Proof.
      intros certified s e final Sound L R. unfold put_certified, list_from.
      destruct (certified s e) as [start|]; [|apply (replay _ s e); trivial; lia].
      destruct (Sound _ eq_refl) as (y & Ry & C & Ly & Uy).
      destruct (le_lt_dec s start) as [In_|Before_].
      - rewrite (replay _ s (S start)), (own_list _ s e) by (trivial; lia).
        replace (e - s) with ((S start - s) + (e - S start)) by lia.
        rewrite sweep_app. replace (s + (S start - s)) with (S start) by lia.
        apply (cut_of_iff_after _ _ sizes _ Hf o s final) in C; trivial. now rewrite C.
      - (* It lies before the segment: then it is the last cut before, already in hand. *)
        assert (E : start = final).
        { rewrite (last_cut_unique _ _ sizes _ Hf _ _ _ L). apply (last_cut_unique _ _ sizes _ Hf).
          repeat split; trivial. lia. }
        subst start. rewrite (replay _ s e final e) by (trivial; lia).
        rewrite (cuts_sweep _ _ sizes _ (view_bounded _ _ _ _ _ _ (views s (S final)))).
        now rewrite Nat.sub_diag.
    Qed.

    (** What follows a cut in a chunk list is the chunk list from that cut. *)
    Lemma following_sweep : forall g k b x c, In c (sweep g b x k) ->
      following c (sweep g b x k) = sweep g c (S c) (x + k - S c).
    Proof.
      intros g. induction k as [|k IH]; intros b x c I; simpl in I |- *; [easy|].
      assert (S x + k - S c = x + S k - S c) as E by lia.
      destruct (g b x); simpl; [|now rewrite IH, E].
      destruct (Nat.eqb_spec x c) as [->|D]; [now replace (c + S k - S c) with k by lia|].
      destruct I as [->|I]; [easy|]. now rewrite IH, E.
    Qed.

    Lemma join_is_replay : forall g mine e,
      bounded min max g ->
      (forall c, In c mine -> following c mine = cuts min max g c e) ->
      forall fuel b, e - S b <= fuel ->
      join_fuel (next_cut min max g) mine b e fuel = cuts min max g b e.
    Proof.
      intros g mine e B M fuel b Fu.
      rewrite (cuts_sweep _ _ sizes _ B), <- (jump_sweep _ _ sizes _ B fuel) by lia.
      revert b Fu. induction fuel as [|k IH]; intros b Fu; simpl; trivial.
      pose proof (next_after _ _ sizes _ B b).
      destruct (Nat.ltb_spec (next_cut min max g b) e); trivial. f_equal.
      destruct (existsb _ mine) eqn:I; [|apply IH; lia].
      apply existsb_exists in I. destruct I as (c & I & E). apply Nat.eqb_eq in E. subst c.
      rewrite (M _ I), (cuts_sweep _ _ sizes _ B). symmetry. apply (jump_sweep _ _ sizes _ B). lia.
    Qed.

    (** With any guess at all. *)
    Lemma put_joined_serial : forall guess s e final,
      is_last s final -> s <= e ->
      put_joined min max own guess final s e = sweep f final s (e - s).
    Proof.
      intros guess s e final L R. unfold put_joined, list_from.
      assert (B := view_bounded _ _ _ _ _ _ (views s e)).
      rewrite (join_is_replay _ _ _ B); [apply (replay _ s e); trivial; lia| |lia].
      intros c. destruct (guess s e) as [g|]; [|easy]. intros I. simpl.
      destruct (Nat.eqb_spec g c) as [->|D]; [reflexivity|].
      destruct I as [->|I]; [easy|].
      rewrite !(cuts_sweep _ _ sizes _ B) in *.
      pose proof (in_sweep _ _ _ _ _ I).
      rewrite following_sweep by assumption. f_equal. lia.
    Qed.
  End OneSegment.

  (** ** The segments, one after the other *)

  (** Ascending segment ends, from [s] to [n]. *)
  Fixpoint ascending (s : nat) (bounds : list nat) (n : nat) : Prop :=
    match bounds with
    | [] => s = n
    | e :: rest => s < e /\ ascending e rest n
    end.

  Lemma ascending_le : forall bounds s n, ascending s bounds n -> s <= n.
  Proof.
    induction bounds as [|e rest IH]; intros s n H; simpl in H; [lia|].
    destruct H as [L H]. apply IH in H. lia.
  Qed.

  Lemma ascending_ends : forall seeks x k s, s < x ->
    ascending s (filter (fun y => existsb (Nat.eqb y) seeks) (seq x k) ++ [x + k]) (x + k).
  Proof.
    intros seeks x k. revert x. induction k as [|k IH]; intros x s L; simpl.
    - split; [lia|reflexivity].
    - replace (x + S k) with (S x + k) by lia.
      destruct (existsb (Nat.eqb x) seeks); simpl; [split; [assumption|]|]; apply IH; lia.
  Qed.

  Section AllSegments.
    Variable put : nat -> nat -> nat -> list nat.
    Variable first : nat -> nat -> list nat.
    Hypothesis put_serial : forall s e final, o < s <= e -> is_last s final ->
      put final s e = sweep f final s (e - s).
    Hypothesis first_serial : forall e, first o e = sweep f o (S o) (e - S o).

    Lemma stitch_is_serial : forall bounds s n final,
      o < s -> ascending s bounds n -> is_last s final ->
      stitch put final s bounds = sweep f final s (n - s).
    Proof.
      induction bounds as [|e rest IH]; intros s n final Ls A L; simpl in A |- *.
      - subst. now rewrite Nat.sub_diag.
      - destruct A as [Le A]. pose proof (ascending_le _ _ _ A).
        rewrite put_serial, last_sweep by (trivial; lia).
        rewrite (IH e n); trivial; [|lia|].
        + replace (n - s) with ((e - s) + (n - e)) by lia. rewrite sweep_app.
          now replace (s + (e - s)) with e by lia.
        + pose proof (after_is_last_cut _ _ sizes _ Hf o s final (e - s) L) as L'.
          now replace (s + (e - s)) with e in L' by lia.
    Qed.

    Lemma stitched_is_serial : forall n seeks,
      stitched put first o n seeks = serial min max f o n.
    Proof.
      intros n seeks. rewrite (serial_sweep _ _ sizes _ Hf). unfold stitched.
      destruct (Nat.ltb_spec o n) as [L|L]; [|now replace (n - S o) with 0 by lia].
      assert (A : ascending o (ends o n seeks) n).
      { unfold ends. pose proof (ascending_ends seeks (S o) (n - S o) o (Nat.lt_succ_diag_r o)) as A.
        now replace (S o + (n - S o)) with n in A by lia. }
      destruct (ends o n seeks) as [|e rest]; simpl in A; [lia|]. destruct A as [Le A].
      pose proof (ascending_le _ _ _ A).
      rewrite first_serial, last_sweep, app_assoc. f_equal.
      rewrite (stitch_is_serial _ _ n); trivial.
      - replace (n - S o) with ((e - S o) + (n - e)) by lia. rewrite sweep_app.
        now replace (S o + (e - S o)) with e by lia.
      - now apply last_cut_exists.
    Qed.
  End AllSegments.

  (** ** Stitching by certified cuts, and by joining *)

  Section Both.
    Variable own : nat -> nat -> rule.
    Hypothesis views : forall s e, view min max f (own s e) s e.

    (** Workers whose answers are sound: at some position of their segment they are the
        last cut. *)
    Theorem sound_stitching : forall certified n seeks,
      (forall s e c, o < s <= e -> certified s e = Some c -> exists y, s <= y <= e /\ is_last y c) ->
      stitched (put_certified min max own certified)
               (fun s e => list_from min max own s s e) o n seeks
      = serial min max f o n.
    Proof.
      intros certified n seeks Sound. apply stitched_is_serial.
      - intros s e final R L. apply put_certified_serial; trivial; [|lia].
        intros start. now apply Sound.
      - intros e. now apply (own_list _ o).
    Qed.

    (** Workers that certify with the live set of their own segment's rule.  They may
        look at a part of the segment only, and give up at will. *)
    Theorem certified_stitching : forall certified n seeks,
      (forall s e c, certified s e = Some c ->
         exists e', e' <= e /\ certify (own s e) max s e' = Some c) ->
      stitched (put_certified min max own certified)
               (fun s e => list_from min max own s s e) o n seeks
      = serial min max f o n.
    Proof.
      intros certified n seeks Answers. apply sound_stitching. intros s e c R C.
      destruct (Answers s e c C) as (e' & L & C').
      rewrite (certify_local _ f) in C' by (intros; apply views; lia).
      destruct (certify_sound _ _ sizes _ Hf _ _ _ C') as (y & Ry & All).
      exists y. split; [lia|]. apply All. lia.
    Qed.

    (** Workers that guess: stitched equals serial whatever they guess.  So the result
        does not hang on the certifier; only the amount of replay does. *)
    Theorem joined_stitching : forall guess n seeks,
      stitched (put_joined min max own guess)
               (fun s e => list_from min max own s s e) o n seeks
      = serial min max f o n.
    Proof.
      intros guess n seeks. apply stitched_is_serial.
      - intros s e final R L. apply put_joined_serial; trivial. lia.
      - intros e. now apply (own_list _ o).
    Qed.
  End Both.
End Correct.

(** * THE theorem: the plain rule, with the live set *)

Section Plain.
  Variables min normal max : nat.
  Hypothesis sizes : 1 <= min <= normal /\ normal <= max.

  Notation chunking h := (plain min normal max h).

  (** A worker's rule: over the hits it found in its segment, no others. *)
  Definition own_hits (h : hits) (s e : nat) : rule := chunking (within s e h).

  Lemma own_hits_view : forall h s e, view min max (chunking h) (own_hits h s e) s e.
  Proof.
    intros h s e. split.
    - now apply plain_bounded.
    - intros. now apply plain_within_inside.
    - intros b c _ T. now apply plain_within_fewer in T.
  Qed.

  (** Stitched = serial: for every hits [h] of a file that occupies [o, n), every list
      of seek points, and every [1 <= min <= normal <= max].  Each worker certifies
      with the live set from the hits of its own segment; nothing is assumed of what
      it finds. *)
  Theorem stitched_equals_serial : forall h o n seeks,
    stitched (put_certified min max (own_hits h) (fun s e => certify (own_hits h s e) max s e))
             (fun s e => list_from min max (own_hits h) s s e) o n seeks
    = serial min max (chunking h) o n.
  Proof.
    intros h o n seeks. apply certified_stitching.
    - exact (min_max_sizes _ _ _ sizes).
    - now apply plain_bounded.
    - apply own_hits_view.
    - intros s e c C. exists e. auto.
  Qed.

  (** The same with guesses in place of certified cuts. *)
  Theorem joined_equals_serial : forall h guess o n seeks,
    stitched (put_joined min max (own_hits h) guess)
             (fun s e => list_from min max (own_hits h) s s e) o n seeks
    = serial min max (chunking h) o n.
  Proof.
    intros h guess o n seeks. apply joined_stitching.
    - exact (min_max_sizes _ _ _ sizes).
    - now apply plain_bounded.
    - apply own_hits_view.
  Qed.
End Plain.
